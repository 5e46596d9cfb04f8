//! The run as a picture: an SVG that a person can read from left to right, in lines of a few minutes.
//!
//! Each line shows, from above: writes acknowledged in each second; times in which clients had none acknowledged; a lane
//! for each node, in the colour of what it was; changes of hot with their milliseconds; and every fault with its name.
//! Names are laid out in rows until none covers another, so a line is as high as it needs to be.

use crate::workload::Pause;
use std::fmt::Write;

/// What a node was, at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It reigned.
    Hot,
    /// It followed.
    Warm,
    /// It had no process.
    Down,
    /// It stood still.
    Paused,
    /// It could not reach everybody, or was not reached.
    Cut,
    /// It ran under something that made it slow or fail: a disk, a limit.
    Impaired,
}

impl State {
    const ALL: [Self; 6] = [Self::Hot, Self::Warm, Self::Down, Self::Paused, Self::Cut, Self::Impaired];

    fn word(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Warm => "warm",
            Self::Down => "down",
            Self::Paused => "paused",
            Self::Cut => "cut off",
            Self::Impaired => "impaired",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Self::Hot => "#e4572e",
            Self::Warm => "#a9d3c9",
            Self::Down => "#39424e",
            Self::Paused => "#8e6bbf",
            Self::Cut => "#f0b429",
            Self::Impaired => "#6c8ebf",
        }
    }
}

/// A fault, as a bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Its kind and place: `kill_hot b`.
    pub label: String,
    /// The nodes that it hit, and what it made of them while it lasted; none for a fault of the network as a whole.
    pub nodes: Vec<(usize, State)>,
    /// When it began, nanoseconds since the run began.
    pub from_ns: u64,
    /// When it was over.
    pub until_ns: u64,
}

/// A change of hot.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// When the new hot first served.
    pub at_ns: u64,
    /// Who it is.
    pub to: usize,
    /// From the fault to the first acknowledged write, in milliseconds.
    pub took_ms: f64,
}

/// What is drawn.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// The first line: what ran, and the seed that draws it again.
    pub title: String,
    /// The second line: totals.
    pub totals: String,
    /// How long the run was.
    pub length_ns: u64,
    /// Names of the nodes.
    pub nodes: Vec<String>,
    /// Who was hot in the beginning.
    pub first_hot: usize,
    /// All faults.
    pub faults: Vec<Bar>,
    /// All changes of hot, ascending.
    pub takeovers: Vec<Mark>,
    /// All times without an acknowledged write.
    pub pauses: Vec<Pause>,
    /// Writes acknowledged in each second.
    pub acknowledged_per_second: Vec<u64>,
}

const SECOND: u64 = 1_000_000_000;
/// What one line shows, at most: then about seven names a minute fit beside each other.
const LINE_NS: u64 = 300 * SECOND;
const WIDTH: f64 = 1_640.0;
const LEFT: f64 = 120.0;
const RIGHT: f64 = 56.0;
const HEAD: f64 = 128.0;
const AREA_HEIGHT: f64 = 70.0;
const LANE_HEIGHT: f64 = 18.0;
const LANE_STEP: f64 = 23.0;
const ROW: f64 = 15.0;
const FAULT_ROW: f64 = 21.0;
const INK: &str = "#1f2933";
const FAINT: &str = "#7b8794";
const PAUSE: &str = "#c81e4a";
const RATE: &str = "#3d7fc4";

/// Labels that do not cover each other: the row of each, and how many rows there are.
struct Rows {
    ends: Vec<f64>,
}

impl Rows {
    /// The first row that is free from `from` on; it is taken up to `to`.
    fn take(&mut self, from: f64, to: f64) -> usize {
        let row = self.ends.iter().position(|end| *end <= from).unwrap_or(self.ends.len());
        if row == self.ends.len() {
            self.ends.push(to);
        } else {
            self.ends[row] = to;
        }
        row
    }
}

/// About how wide a text is.
fn width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.6
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// One line of the picture.
struct Line<'a> {
    picture: &'a Picture,
    from_ns: u64,
    until_ns: u64,
    /// How long the axis is: also the last, shorter line has the scale of the others.
    span_ns: u64,
    rate_max: u64,
    svg: &'a mut String,
    y: f64,
}

// Writing to a string cannot fail.
macro_rules! put {
    ($svg:expr, $($argument:tt)*) => { let _ = writeln!($svg, $($argument)*); };
}

/// Draws it.
#[must_use]
pub fn draw(picture: &Picture) -> String {
    let length_ns = picture.length_ns.max(SECOND);
    let lines = length_ns.div_ceil(LINE_NS);
    // A little over one line is one line still: nobody wants to turn the page for a minute.
    let span_ns = if length_ns <= LINE_NS * 5 / 4 { length_ns } else { LINE_NS };
    let lines = if span_ns == length_ns { 1 } else { lines };
    let rate_max = round_up(picture.acknowledged_per_second.iter().copied().max().unwrap_or(0).max(1));
    let mut body = String::new();
    let mut y = HEAD;
    for number in 0..lines {
        let from_ns = number * span_ns;
        let until_ns = (from_ns + span_ns).min(length_ns);
        let mut line = Line { picture, from_ns, until_ns, span_ns, rate_max, svg: &mut body, y };
        line.draw();
        y = line.y + 26.0;
    }
    let mut svg = String::new();
    put!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y:.0}\" viewBox=\"0 0 {WIDTH} {y:.0}\" \
         font-family=\"DejaVu Sans, Helvetica, Arial, sans-serif\" font-size=\"11\" fill=\"{INK}\">"
    );
    put!(svg, "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>");
    put!(svg, "<text x=\"24\" y=\"38\" font-size=\"21\" font-weight=\"bold\">{}</text>", escaped(&picture.title));
    put!(svg, "<text x=\"24\" y=\"62\" font-size=\"13\" fill=\"{FAINT}\">{}</text>", escaped(&picture.totals));
    legend(&mut svg);
    svg.push_str(&body);
    svg.push_str("</svg>\n");
    svg
}

fn legend(svg: &mut String) {
    let mut x = 24.0;
    for state in State::ALL {
        put!(svg, "<rect x=\"{x}\" y=\"82\" width=\"22\" height=\"13\" rx=\"3\" fill=\"{}\"/>", state.colour());
        put!(svg, "<text x=\"{}\" y=\"93\" font-size=\"12\">{}</text>", x + 28.0, state.word());
        x += 28.0 + width(state.word(), 12.0) + 22.0;
    }
    put!(svg, "<path d=\"M{} 96 l5 -13 l5 13 z\" fill=\"{INK}\"/>", x);
    put!(svg, "<text x=\"{}\" y=\"93\" font-size=\"12\">change of hot, fault to first write</text>", x + 16.0);
    x += 16.0 + width("change of hot, fault to first write", 12.0) + 14.0;
    put!(svg, "<rect x=\"{x}\" y=\"85\" width=\"22\" height=\"7\" fill=\"{PAUSE}\"/>");
    put!(svg, "<text x=\"{}\" y=\"93\" font-size=\"12\">clients without an acknowledged write</text>", x + 28.0);
    x += 28.0 + width("clients without an acknowledged write", 12.0) + 14.0;
    put!(
        svg,
        "<rect x=\"{x}\" y=\"82\" width=\"22\" height=\"13\" fill=\"{RATE}\" fill-opacity=\"0.25\" stroke=\"{RATE}\"/>"
    );
    put!(svg, "<text x=\"{}\" y=\"93\" font-size=\"12\">acknowledged writes/s</text>", x + 28.0);
}

/// The next number of the form 1, 2, 5 times a power of ten.
fn round_up(number: u64) -> u64 {
    let mut power = 1;
    loop {
        if let Some(step) = [1, 2, 5].into_iter().find(|step| step * power >= number) {
            return step * power;
        }
        power *= 10;
    }
}

impl Line<'_> {
    fn x(&self, at_ns: u64) -> f64 {
        let within = at_ns.clamp(self.from_ns, self.until_ns) - self.from_ns;
        LEFT + (WIDTH - LEFT - RIGHT) * within as f64 / self.span_ns as f64
    }

    /// Whether something falls into this line. What is over at the end of a line does not touch the next.
    fn shows(&self, from_ns: u64, until_ns: u64) -> bool {
        from_ns < self.until_ns && (until_ns > self.from_ns || from_ns >= self.from_ns)
    }

    fn draw(&mut self) {
        let top = self.y;
        self.area();
        self.pauses();
        let lanes_from = self.y;
        self.lanes();
        self.takeovers(lanes_from);
        self.faults();
        self.axis(top);
    }

    fn name(&mut self, y: f64, text: &str) {
        put!(
            self.svg,
            "<text x=\"{}\" y=\"{y:.1}\" text-anchor=\"end\" fill=\"{FAINT}\">{}</text>",
            LEFT - 10.0,
            escaped(text)
        );
    }

    /// Writes acknowledged in each second, as steps.
    fn area(&mut self) {
        let bottom = self.y + AREA_HEIGHT;
        let mut path = format!("M{:.1} {bottom:.1}", self.x(self.from_ns));
        let mut second = self.from_ns / SECOND;
        while second * SECOND < self.until_ns {
            let rate = self.picture.acknowledged_per_second.get(second as usize).copied().unwrap_or(0);
            let y = bottom - AREA_HEIGHT * rate as f64 / self.rate_max as f64;
            let _ =
                write!(path, " L{:.1} {y:.1} L{:.1} {y:.1}", self.x(second * SECOND), self.x((second + 1) * SECOND));
            second += 1;
        }
        let _ = write!(path, " L{:.1} {bottom:.1} Z", self.x(self.until_ns));
        let (right, top) = (self.x(self.until_ns), self.y);
        put!(
            self.svg,
            "<path d=\"M{LEFT} {top} H{right:.1} M{LEFT} {bottom} H{right:.1}\" stroke=\"#d9dee4\" fill=\"none\"/>"
        );
        put!(
            self.svg,
            "<path d=\"{path}\" fill=\"{RATE}\" fill-opacity=\"0.25\" stroke=\"{RATE}\" stroke-width=\"0.8\"/>"
        );
        self.name(top + 4.0, &self.rate_max.to_string());
        self.name(top + AREA_HEIGHT / 2.0 + 4.0, "writes/s");
        self.name(bottom + 2.0, "0");
        self.y = bottom + 8.0;
    }

    /// The longest pauses, whatever the workload: where several workloads paused, they are one.
    fn pauses(&mut self) {
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for pause in self.picture.pauses.iter().filter(|pause| self.shows(pause.from_ns, pause.until_ns)) {
            match merged.last_mut() {
                Some((_, until)) if pause.from_ns <= *until => *until = pause.until_ns.max(*until),
                _ => merged.push((pause.from_ns, pause.until_ns)),
            }
        }
        let mut rows = Rows { ends: Vec::new() };
        for (from, until) in merged {
            let (x, end) = (self.x(from), self.x(until));
            put!(
                self.svg,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"7\" fill=\"{PAUSE}\"/>",
                self.y,
                (end - x).max(1.5)
            );
            // Shorter ones can be seen, and their names would only hide the long ones.
            let ms = (until - from) / 1_000_000;
            if ms >= 500 {
                let text = format!("{}.{} s", ms / 1_000, ms % 1_000 / 100);
                let row = rows.take(x, x + width(&text, 9.0) + 4.0) as f64;
                let y = self.y + 17.0 + row * 11.0;
                put!(self.svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"9\" fill=\"{PAUSE}\">{text}</text>");
            }
        }
        self.name(self.y + 7.0, "pauses");
        self.y += 16.0 + rows.ends.len() as f64 * 11.0;
    }

    /// Each node in the colour of what it was: its role, and over it what a fault made of it.
    fn lanes(&mut self) {
        let picture = self.picture;
        for node in 0..picture.nodes.len() {
            let y = self.y;
            self.name(y + 13.0, &picture.nodes[node]);
            self.span(y, self.from_ns, self.until_ns, State::Warm);
            let mut hot = picture.first_hot;
            let mut since = 0;
            for mark in picture.takeovers.iter().copied() {
                if hot == node {
                    self.span(y, since, mark.at_ns, State::Hot);
                }
                (hot, since) = (mark.to, mark.at_ns);
            }
            if hot == node {
                self.span(y, since, self.until_ns, State::Hot);
            }
            for fault in &picture.faults {
                for (_, state) in fault.nodes.iter().filter(|(hit, _)| *hit == node) {
                    self.span(y, fault.from_ns, fault.until_ns, *state);
                }
            }
            self.y += LANE_STEP;
        }
    }

    fn span(&mut self, y: f64, from_ns: u64, until_ns: u64, state: State) {
        if !self.shows(from_ns, until_ns) || from_ns >= until_ns {
            return;
        }
        let (x, end) = (self.x(from_ns), self.x(until_ns));
        put!(
            self.svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{LANE_HEIGHT}\" fill=\"{}\"/>",
            (end - x).max(1.5),
            state.colour()
        );
    }

    fn takeovers(&mut self, lanes_from: f64) {
        let picture = self.picture;
        let mut rows = Rows { ends: Vec::new() };
        let top = self.y + 4.0;
        let marks = picture.takeovers.iter().filter(|mark| self.shows(mark.at_ns, mark.at_ns));
        let marks: Vec<(f64, String)> =
            marks.map(|mark| (self.x(mark.at_ns), format!("{:.0} ms", mark.took_ms))).collect();
        for (x, text) in marks {
            let row = rows.take(x - 6.0, x + 8.0 + width(&text, 10.0)) as f64;
            let y = top + row * ROW;
            put!(
                self.svg,
                "<path d=\"M{x:.1} {lanes_from:.1} V{y:.1}\" stroke=\"{INK}\" stroke-width=\"0.8\" stroke-opacity=\"0.55\"/>"
            );
            put!(self.svg, "<path d=\"M{:.1} {:.1} l4.5 -10 l4.5 10 z\" fill=\"{INK}\"/>", x - 4.5, y + 9.0);
            put!(self.svg, "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"10\">{text}</text>", x + 7.0, y + 8.5);
        }
        self.name(top + 9.0, "new hot after");
        self.y = top + rows.ends.len().max(1) as f64 * ROW + 4.0;
    }

    /// Every fault as a bar from its beginning to its end, and its name above the bar.
    fn faults(&mut self) {
        let picture = self.picture;
        let mut rows = Rows { ends: Vec::new() };
        let top = self.y;
        let mut faults: Vec<&Bar> =
            picture.faults.iter().filter(|fault| self.shows(fault.from_ns, fault.until_ns)).collect();
        faults.sort_by_key(|fault| fault.from_ns);
        for fault in faults {
            let (begin, end) = (self.x(fault.from_ns), self.x(fault.until_ns));
            let length = width(&fault.label, 10.0);
            // A name at the right edge ends there.
            let x = begin.min(WIDTH - RIGHT - length).max(LEFT);
            let row = rows.take(x.min(begin), end.max(x + length) + 8.0) as f64;
            let y = top + row * FAULT_ROW;
            put!(
                self.svg,
                "<rect x=\"{begin:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"4\" rx=\"2\" fill=\"{}\"/>",
                y + 13.5,
                (end - begin).max(3.0),
                fault.nodes.first().map_or(INK, |(_, state)| state.colour())
            );
            put!(self.svg, "<text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"10\">{}</text>", y + 9.5, escaped(&fault.label));
        }
        self.name(top + 10.0, "faults");
        self.y = top + rows.ends.len().max(1) as f64 * FAULT_ROW + 6.0;
    }

    /// Time, with a faint line through everything at each step.
    fn axis(&mut self, top: f64) {
        let seconds = self.span_ns / SECOND;
        let step = [1, 2, 5, 10, 15, 30, 60].into_iter().find(|step| seconds / step <= 20).unwrap_or(60) * SECOND;
        let bottom = self.y;
        let right = self.x(self.until_ns);
        put!(self.svg, "<path d=\"M{LEFT} {bottom:.1} H{right:.1}\" stroke=\"{FAINT}\" fill=\"none\"/>");
        let mut at = self.from_ns.div_ceil(step) * step;
        while at <= self.until_ns {
            let x = self.x(at);
            let (minute, second) = (at / SECOND / 60, at / SECOND % 60);
            put!(
                self.svg,
                "<path d=\"M{x:.1} {top:.1} V{:.1}\" stroke=\"{INK}\" stroke-opacity=\"0.09\"/>",
                bottom + 4.0
            );
            put!(
                self.svg,
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10\" fill=\"{FAINT}\">{minute}:{second:02}</text>",
                bottom + 16.0
            );
            at += step;
        }
        self.y = bottom + 20.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A made-up run: a fault every eight seconds, of changing kinds, each with a takeover.
    fn made_up(minutes: u64) -> Picture {
        let kinds = [
            ("kill_hot", State::Down, 900, 180.0),
            ("pause", State::Paused, 3_000, 1_310.0),
            ("cut_from_peers", State::Cut, 4_000, 1_240.0),
            ("slow_disk", State::Impaired, 5_000, 2_900.0),
            ("kill_both", State::Down, 1_500, 1_190.0),
        ];
        let mut picture = Picture {
            title: "hotwarm torture: seed 42, 3 nodes".to_owned(),
            totals: "0 lost, 0 duplicated, 0 stale <of 100,000 calls>".to_owned(),
            length_ns: minutes * 60 * SECOND,
            nodes: ["a", "b", "c"].map(ToOwned::to_owned).to_vec(),
            ..Picture::default()
        };
        let mut hot = 0;
        for number in 0..minutes * 60 / 8 {
            let (kind, state, length_ms, took_ms) = kinds[number as usize % kinds.len()];
            let from_ns = number * 8 * SECOND + 700 * MS;
            let until_ns = from_ns + length_ms * MS;
            let label = format!("{kind} {}", picture.nodes[hot]);
            picture.faults.push(Bar { label, nodes: vec![(hot, state)], from_ns, until_ns });
            hot = (hot + 1) % 3;
            let at_ns = from_ns + took_ms as u64 * MS;
            picture.takeovers.push(Mark { at_ns, to: hot, took_ms });
            picture.pauses.push(Pause { workload: "counters", from_ns, until_ns: at_ns });
        }
        picture.acknowledged_per_second =
            (0..minutes * 60).map(|second| if second % 8 == 1 { 350 } else { 1_500 + second * 37 % 200 }).collect();
        picture
    }

    /// Where the texts of one size lie: left, right, baseline.
    fn texts(svg: &str, size: f64) -> Vec<(f64, f64, f64)> {
        let attribute = |line: &str, name: &str| -> Option<f64> {
            line.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?.parse().ok()
        };
        svg.lines()
            .filter(|line| line.starts_with("<text") && attribute(line, "font-size") == Some(size))
            .filter(|line| !line.contains("text-anchor"))
            .map(|line| {
                let text = line.split('>').nth(1).unwrap().split('<').next().unwrap();
                let x = attribute(line, "x").unwrap();
                (x, x + width(text, size), attribute(line, "y").unwrap())
            })
            .collect()
    }

    #[test]
    fn no_name_covers_another_and_none_leaves_the_picture() {
        for minutes in [1, 5, 6, 17] {
            let svg = draw(&made_up(minutes));
            let mut texts = texts(&svg, 10.0);
            texts.extend(self::texts(&svg, 9.0));
            assert!(texts.len() as u64 >= minutes * 14, "{}", texts.len());
            for (index, (left, right, y)) in texts.iter().enumerate() {
                assert!(*left >= LEFT - 1.0 && *right <= WIDTH, "{left} to {right}");
                for (other_left, other_right, other_y) in &texts[index + 1..] {
                    let apart = right <= other_left || other_right <= left || (y - other_y).abs() >= 9.0;
                    assert!(
                        apart,
                        "{minutes} min: {left}..{right} at {y} and {other_left}..{other_right} at {other_y}"
                    );
                }
            }
        }
    }

    #[test]
    fn everything_of_the_run_is_in_it() {
        let picture = made_up(17);
        let svg = draw(&picture);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("kill_hot ").count(), picture.faults.len().div_ceil(5));
        assert_eq!(svg.matches("l4.5 -10").count(), picture.takeovers.len());
        assert!(svg.contains("&lt;of 100,000 calls&gt;") && svg.contains("seed 42"));
        assert!(svg.contains(">16:45<") || svg.contains(">16:30<"), "the last line has its times");
    }

    #[test]
    fn an_empty_run_is_drawn_too() {
        assert!(draw(&Picture::default()).contains("writes/s"));
    }

    #[test]
    fn scales_end_in_round_numbers() {
        assert_eq!([1, 3, 11, 1_600, 5_000].map(round_up), [1, 5, 20, 2_000, 5_000]);
    }
}
