//! `hotwarm demo`: a real group on this machine, under load, broken on purpose again and again.
//!
//! Each round kills (or freezes) the hot, lets a warm take over, brings the old hot back, and hands over. What the
//! clients were told is held against what every node holds at the end. Nothing here is special to the demo: the nodes
//! are ordinary processes of this program, the load comes through ordinary connections.

mod client;
mod group;
mod judge;
mod report;
mod writers;

use crate::failure::Failure;
use crate::flags::{Demo, DemoKind};
use crate::render::json;
use crate::{Verdict, print};
use group::{DemoGroup, Killed};
use hotwarm_node::admin::{Done, Status, SwitchoverRequest};
use hotwarm_node::history::Event;
use report::{Change, Rejoin, Report};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use writers::{Shared, Watch};

/// Writers: enough for the group commit to have something to group, few enough for two cores.
const WRITERS: usize = 24;
/// Load between two events: every takeover meets a group at work.
const CALM: Duration = Duration::from_millis(700);
/// How long writes may stand still before the demo gives up on a takeover.
const TAKEOVER_WAIT: Duration = Duration::from_secs(15);

/// Runs the demo: yes if nothing was lost, doubled or failed. What failed once the writers wrote is in the report.
///
/// # Errors
/// The group could not be made or started.
pub fn run(flags: &Demo) -> Result<Verdict, Failure> {
    let (folder, temporary) = choose_folder(flags)?;
    let filesystem = hotwarm_disk::filesystem(&folder)?;
    if matches!(filesystem.as_str(), "tmpfs" | "ramfs") && !flags.allow_tmpfs {
        let folder = folder.display();
        return Err(Failure::new(format!(
            "{folder} is on {filesystem}, where a sync costs nothing and a power cut takes all: choose a folder on a disk with --dir, or say --allow-tmpfs"
        )));
    }
    let tell = Teller { quiet: flags.json };
    tell.say(&format!("data in {} ({filesystem})", folder.display()))?;
    let kept = |failure: Failure| failure.and(&format!("the nodes' logs and data are kept in {}", folder.display()));
    let mut group = DemoGroup::make(&folder, flags.witness, flags.profile.word())?;
    let mut report = demonstrate(&mut group, flags, &tell).map_err(kept)?;
    report.filesystem = filesystem;
    if flags.keep {
        group.keep();
    } else {
        group.stop();
    }
    if temporary
        && !flags.keep
        && report.is_good()
        && let Err(error) = std::fs::remove_dir_all(&folder)
    {
        report.failures.push(format!("the folder cannot be removed: {error}"));
    }
    report.folder = folder.exists().then(|| folder.clone());
    // Nothing can fail past the one object.
    if flags.json {
        print(&json::pretty(&serde_json::to_value(&report)?))?;
    } else {
        print(&report.text())?;
    }
    if flags.keep {
        for node in group.nodes.iter().filter(|node| node.data) {
            tell.say(&format!("{} goes on: redis-cli -p {}   (admin {})", node.name, node.front.port(), node.admin))?;
        }
        let config = folder.join("hotwarm.toml");
        tell.say(&format!("look: hotwarm status --config {} --node a", config.display()))?;
    }
    Ok(if report.is_good() { Verdict::Yes } else { Verdict::No })
}

/// Starts the group and breaks it.
fn demonstrate(group: &mut DemoGroup, flags: &Demo, tell: &Teller) -> Result<Report, Failure> {
    for node in 0..group.nodes.len() {
        group.start(node)?;
    }
    let status = group.wait_in_sync()?;
    tell.say(&format!("{} nodes, hot {}, all in sync", group.nodes.len(), status.node.name))?;
    Director::new(group, flags, tell).direct()
}

/// The folder of the run, and whether it is the demo's own to remove.
fn choose_folder(flags: &Demo) -> Result<(PathBuf, bool), Failure> {
    if let Some(folder) = &flags.dir {
        std::fs::create_dir_all(folder)?;
        if std::fs::read_dir(folder)?.next().is_some() {
            let folder = folder.display();
            return Err(Failure::new(format!(
                "{folder} is not empty, and the demo writes into an empty folder only: choose another with --dir, or leave --dir out"
            )));
        }
        return Ok((std::fs::canonicalize(folder)?, false));
    }
    // Below the temporary folder of the system if that is on a disk, else here.
    let temporary = std::env::temp_dir();
    let on_disk = !matches!(hotwarm_disk::filesystem(&temporary)?.as_str(), "tmpfs" | "ramfs");
    let base: &Path = if on_disk || flags.allow_tmpfs { &temporary } else { Path::new(".") };
    let folder = base.join(format!("hotwarm-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    Ok((std::fs::canonicalize(folder)?, true))
}

struct Teller {
    quiet: bool,
}

impl Teller {
    fn say(&self, text: &str) -> Result<(), Failure> {
        if self.quiet { Ok(()) } else { print(&format!("{text}\n")) }
    }
}

/// Breaks the group round by round while the writers write.
struct Director<'a> {
    group: &'a mut DemoGroup,
    flags: &'a Demo,
    tell: &'a Teller,
    shared: Arc<Shared>,
    report: Report,
    /// Epochs that are accounted for: the first one's, and one for each kill and hand-over.
    asked: BTreeSet<u64>,
}

impl<'a> Director<'a> {
    fn new(group: &'a mut DemoGroup, flags: &'a Demo, tell: &'a Teller) -> Self {
        // A witness has a front too; it sends everything on, like any node.
        let fronts: Vec<_> = group.nodes.iter().map(|node| node.front).collect();
        let shared = Arc::new(Shared::new(fronts));
        Self { group, flags, tell, shared, report: Report::default(), asked: BTreeSet::new() }
    }

    fn direct(mut self) -> Result<Report, Failure> {
        let first = self.group.hot().ok_or_else(|| Failure::new("no node serves"))?;
        self.account_for_epoch(first)?;
        let begun = Instant::now();
        let writers = writers::start(&self.shared, self.flags.writers.unwrap_or(WRITERS));
        let result = self.rounds(begun);
        self.shared.stop.store(true, Ordering::Relaxed);
        let (told, panicked) = writers::join(writers);
        if panicked > 0 {
            self.report.failures.push(format!("{panicked} writers panicked, and what they were told is not judged"));
        }
        self.report.seconds = begun.elapsed().as_secs_f64();
        self.report.acked = self.shared.acked.load(Ordering::Relaxed);
        self.report.reconnects = self.shared.reconnects.load(Ordering::Relaxed);
        self.report.client_errors = self.shared.error_count.load(Ordering::Relaxed);
        self.note(result)?;
        // A group that does not settle is judged as it stands.
        let settled = self.group.wait_in_sync().and_then(|_| self.group.wait_applied());
        self.note(settled)?;
        let data = || (0..self.group.nodes.len()).map(|node| (node, &self.group.nodes[node])).filter(|(_, n)| n.data);
        let histories = data().map(|(node, n)| (n.name.as_str(), self.group.admin(node).get("/history")));
        judge::judge_reigns(histories, &self.asked, &mut self.report);
        let nodes: Vec<_> = data().map(|(_, node)| (node.name.as_str(), node.own_copy)).collect();
        let verdict = judge::judge(&nodes, &told);
        self.report.lost = verdict.lost;
        self.report.duplicated = verdict.duplicated;
        self.report.nodes_identical = verdict.identical;
        self.report.failures.extend(verdict.unread);
        let errors = self.shared.errors.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for finding in verdict.findings.iter().chain(&errors) {
            // For people, and beside the object for machines.
            eprintln!("hotwarm: demo: {finding}");
        }
        Ok(self.report)
    }

    /// Puts a failure into the report, so that what was acknowledged is judged all the same.
    ///
    /// # Errors
    /// Nobody reads what the demo prints.
    fn note(&mut self, result: Result<(), Failure>) -> Result<(), Failure> {
        match result {
            Err(failure) if !failure.is_closed_pipe() => {
                self.report.failures.push(failure.to_string());
                Ok(())
            }
            other => other,
        }
    }

    fn rounds(&mut self, begun: Instant) -> Result<(), Failure> {
        let kinds: &[&str] = match self.flags.kind {
            DemoKind::Crash => &["crash"],
            DemoKind::Pause => &["pause"],
            DemoKind::Both => &["crash", "pause"],
        };
        thread::sleep(CALM);
        for round in 1..=self.flags.rounds {
            for kind in kinds {
                self.failover(round, kind)?;
            }
            self.switchover(round)?;
        }
        if let Some(rest) = self.flags.seconds.and_then(|all| Duration::from_secs(all).checked_sub(begun.elapsed())) {
            thread::sleep(rest);
        }
        Ok(())
    }

    fn failover(&mut self, round: u32, kind: &str) -> Result<(), Failure> {
        let hot = self.group.hot().ok_or_else(|| Failure::new("no node serves"))?;
        let name = self.group.nodes[hot].name.clone();
        self.lock_watch().restart(None);
        self.shared.down[hot].store(true, Ordering::Release);
        let killed = if kind == "crash" { self.group.kill(hot)? } else { self.group.freeze(hot)? };
        self.lock_watch().restart(Some(killed.sent_at));
        let taken_over = self.taken_over(round, kind, hot, &killed);
        thread::sleep(CALM);
        // Whatever came of it, the node comes back: what it holds is judged, too.
        let begun = Instant::now();
        let back = self.bring_back(hot, kind);
        let mut change = taken_over?;
        back?;
        let rejoined = self.group.wait_rejoined(hot);
        let ms = millis(begun.elapsed());
        // Nobody has connected to a killed one meanwhile.
        self.shared.down[hot].store(false, Ordering::Release);
        thread::sleep(CALM);
        let pause_ms = self.longest_pause_ms();
        change.longest_client_pause_ms = pause_ms;
        self.report.failovers.push(change);
        let entries = rejoined?;
        self.tell.say(&format!(
            "         {name} is back in sync after {ms:.0} ms, {entries} entries fetched; longest wait of a client {pause_ms:.1} ms"
        ))?;
        self.report.rejoins.push(Rejoin { kind: kind.to_owned(), ms, entries });
        Ok(())
    }

    /// The takeover from `hot`, whose clients may wait on.
    fn taken_over(&mut self, round: u32, kind: &str, hot: usize, killed: &Killed) -> Result<Change, Failure> {
        let takeover_ms = millis(self.wait_for_ack()? - killed.asked_at);
        let new_hot = self.wait_for_hot(hot)?;
        self.account_for_epoch(new_hot)?;
        let mut phases_ms = self.phases(new_hot, "became_hot");
        let told: f64 = phases_ms.values().sum();
        phases_ms.insert("detected".to_owned(), (takeover_ms - told).max(0.0));
        let (name, new_name) = (&self.group.nodes[hot].name, &self.group.nodes[new_hot].name);
        self.tell.say(&format!("round {round}: {kind} of {name}: {new_name} took over in {takeover_ms:.1} ms"))?;
        let kind = if kind == "crash" { "crash_attested" } else { "pause" }.to_owned();
        Ok(Change { kind, takeover_ms, phases_ms, longest_client_pause_ms: 0.0 })
    }

    fn bring_back(&mut self, node: usize, kind: &str) -> Result<(), Failure> {
        if kind == "crash" {
            self.group.reap(node)?;
            return self.group.start(node);
        }
        // A node that goes on is alive: from here on, whatever it does to its clients counts.
        self.shared.down[node].store(false, Ordering::Release);
        self.group.thaw(node)
    }

    fn switchover(&mut self, round: u32) -> Result<(), Failure> {
        let hot = self.group.hot().ok_or_else(|| Failure::new("no node serves"))?;
        let asked_at = Instant::now();
        self.lock_watch().restart(Some(asked_at));
        let _: Done = self.group.admin(hot).post("/switchover", &SwitchoverRequest { to: None })?;
        // What is begun after the answer can only be taken by the new hot.
        self.lock_watch().acks_from(Instant::now());
        let takeover_ms = millis(self.wait_for_ack()? - asked_at);
        let new_hot = self.wait_for_hot(hot)?;
        self.account_for_epoch(new_hot)?;
        // The old hot tells of draining and the register's choice, the new one of its start.
        let mut phases_ms = self.phases(hot, "handed_over");
        phases_ms.extend(self.phases(new_hot, "became_hot").remove_entry("started"));
        thread::sleep(CALM);
        let longest_client_pause_ms = self.longest_pause_ms();
        let (name, new_name) = (&self.group.nodes[hot].name, &self.group.nodes[new_hot].name);
        self.tell.say(&format!(
            "round {round}: {name} handed over to {new_name} in {takeover_ms:.1} ms, longest wait of a client {longest_client_pause_ms:.1} ms"
        ))?;
        let kind = "switchover".to_owned();
        self.report.switchovers.push(Change { kind, takeover_ms, phases_ms, longest_client_pause_ms });
        Ok(())
    }

    /// The reign of `hot` is one that was asked for.
    fn account_for_epoch(&mut self, hot: usize) -> Result<(), Failure> {
        let status: Status = self.group.admin(hot).get("/status")?;
        self.asked.insert(status.epoch);
        Ok(())
    }

    /// How long each part took, by the node's last event of that kind.
    fn phases(&self, node: usize, kind: &str) -> BTreeMap<String, f64> {
        let events: Vec<Event> = self.group.admin(node).get("/history").unwrap_or_default();
        let last = events.into_iter().rev().find(|event| event.event == kind);
        last.map(|event| event.phases_ms).unwrap_or_default()
    }

    fn lock_watch(&self) -> MutexGuard<'_, Watch> {
        self.shared.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn longest_pause_ms(&self) -> f64 {
        millis(self.lock_watch().longest_pause(Instant::now()))
    }

    fn wait_for_ack(&self) -> Result<Instant, Failure> {
        let begun = Instant::now();
        while begun.elapsed() < TAKEOVER_WAIT {
            if let Some(first) = self.lock_watch().first_ack() {
                return Ok(first);
            }
            thread::sleep(Duration::from_millis(2));
        }
        Err(Failure::new(format!("no write was acknowledged within {} s", TAKEOVER_WAIT.as_secs())))
    }

    fn wait_for_hot(&self, but: usize) -> Result<usize, Failure> {
        let begun = Instant::now();
        while begun.elapsed() < TAKEOVER_WAIT {
            let nodes = (0..self.group.nodes.len()).filter(|node| *node != but && self.group.nodes[*node].data);
            for node in nodes {
                if self.group.serves(node) {
                    return Ok(node);
                }
            }
            thread::sleep(Duration::from_millis(2));
        }
        Err(Failure::new(format!("no other node serves after {} s", TAKEOVER_WAIT.as_secs())))
    }
}

fn millis(length: Duration) -> f64 {
    (length.as_secs_f64() * 1e6).round() / 1e3
}
