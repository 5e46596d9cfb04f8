//! Steps through a run: line by line, to a time, or to a line that says something, with a look at every node on the way.

use crate::machine::Mode;
use crate::run::Run;
use crate::trace::{Kept, Trace};
use crate::world::World;
use std::collections::VecDeque;
use std::io::{self, BufRead, Write};

const HELP: &str = "enter: the next line   N: N lines   t MS: to that time   /TEXT: to the next line that has it
s: the state of every node   g: to the end   q: quit";

/// Lets a person, or a script, step through a run.
///
/// # Errors
/// What reading a command or writing a line came to.
pub fn replay(run: &Run, commands: &mut dyn BufRead, out: &mut dyn Write) -> io::Result<()> {
    let mut story = Story { world: run.world(Trace::Keep(Kept::all())), lines: VecDeque::new(), over: false };
    writeln!(out, "{HELP}")?;
    let mut command = String::new();
    loop {
        write!(out, "> ")?;
        out.flush()?;
        command.clear();
        if commands.read_line(&mut command)? == 0 {
            return Ok(());
        }
        match command.trim() {
            "q" => return Ok(()),
            "s" => story.world.tell_state(out)?,
            "g" => story.tell_until(out, |_, _| false)?,
            "" => story.tell(out, 1)?,
            number if number.parse::<usize>().is_ok() => story.tell(out, number.parse().unwrap_or(1))?,
            other => {
                if let Some(text) = other.strip_prefix('/') {
                    story.tell_until(out, |line, _| line.contains(text))?;
                } else if let Some(Ok(ms)) = other.strip_prefix("t ").map(|ms| ms.trim().parse::<u64>()) {
                    story.tell_until(out, |_, now| now >= ms * 1_000_000)?;
                } else {
                    writeln!(out, "{HELP}")?;
                }
            }
        }
        if story.over && story.lines.is_empty() {
            writeln!(out, "the run is over")?;
        }
    }
}

/// A run, as far as it was told.
struct Story {
    world: World,
    lines: VecDeque<String>,
    over: bool,
}

impl Story {
    /// The next line, and the time after it happened.
    fn next(&mut self) -> Option<(String, u64)> {
        while self.lines.is_empty() && !self.over {
            self.over = !self.world.advance();
            self.lines.extend(self.world.trace.take_lines());
        }
        self.lines.pop_front().map(|line| (line, self.world.now))
    }

    fn tell(&mut self, out: &mut dyn Write, count: usize) -> io::Result<()> {
        for _ in 0..count {
            let Some((line, _)) = self.next() else { return Ok(()) };
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    fn tell_until(&mut self, out: &mut dyn Write, reached: impl Fn(&str, u64) -> bool) -> io::Result<()> {
        while let Some((line, now)) = self.next() {
            writeln!(out, "{line}")?;
            if reached(&line, now) {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl World {
    /// Every node in a line.
    fn tell_state(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(state) = self.ledger.choices.latest() {
            writeln!(out, "register: {}, reign {}, in sync {:?}", state.version, state.reign, state.in_sync)?;
        }
        writeln!(out, "committed: {}", self.ledger.canon.end)?;
        for machine in &self.machines {
            let Some(process) = &machine.process else {
                let why = machine.fenced.as_ref().map_or("down".to_owned(), |reason| format!("fenced: {reason:?}"));
                writeln!(out, "{}: {why}, log reported up to {}", machine.name, machine.disk.log.end())?;
                continue;
            };
            let does = match process.mode {
                Mode::Serving(tenure) => format!("serves epoch {}", tenure.epoch),
                Mode::Holding => "holds requests".to_owned(),
                Mode::Following(Some(reign)) => format!("follows {reign}"),
                Mode::Following(None) => "follows nobody".to_owned(),
            };
            let lease = process.node.lease_holds(machine.clock.at(self.now));
            writeln!(
                out,
                "{} ({}): {does}{}{}; log {}, durable {}, committed {}; promised {}, epoch {}",
                machine.name,
                process.incarnation,
                if lease { ", has the lease" } else { "" },
                if machine.paused_until.is_some() { ", stopped" } else { "" },
                process.log.end(),
                machine.disk.log.end(),
                process.committed(),
                machine.disk.vote.promised,
                machine.disk.vote.epoch,
            )?;
        }
        Ok(())
    }
}
