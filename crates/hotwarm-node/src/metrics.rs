//! What is measured, and its Prometheus text form.
//!
//! Counters and histograms are plain atomics in one struct, [`Metrics`], so that several nodes can run in one process
//! and nothing is registered anywhere. Positions, lags of members and roles are not counted here: they are read off the
//! [`Status`] at the moment of the scrape. Names follow Prometheus' conventions: a unit last, `_total` on counters,
//! seconds and bytes as base units.

use crate::admin::{Role, Status};
use hotwarm_core::Note;
use hotwarm_core::register::{ChangeKind, GroupState};
use hotwarm_types::Epoch;
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// `count` more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// How many so far.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds of a histogram's buckets in microseconds: 100 us to 10 s, which spans a sync of a good disk and a
/// takeover on a bad day.
const BUCKETS_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// How long something took, as counts in fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One for each bound, and one for what is longer than all.
    counts: [AtomicU64; BUCKETS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts one that took `length`.
    pub fn observe(&self, length: Duration) {
        let us = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.partition_point(|bound| *bound < us);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
    }
}

/// Everything that a node counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Client connections accepted.
    pub connections: Counter,
    /// Client connections refused: too many, or no password where one is needed.
    pub connections_refused: Counter,
    /// Commands that only read.
    pub reads: Counter,
    /// Commands that may write.
    pub writes: Counter,
    /// Commands answered with an error.
    pub command_errors: Counter,
    /// Commands sent on to the hot.
    pub forwarded: Counter,
    /// Commands that had to wait for a hot.
    pub held: Counter,
    /// Commands refused because too many waited, or too long.
    pub hold_refused: Counter,
    /// Retries that were recognised and not executed again.
    pub duplicates: Counter,
    /// Keys that this node, as hot, removed because their time had come and nobody had touched them.
    pub expired: Counter,
    /// How long the key that is removed next is past its time, in milliseconds; 0 where none is, or this node is not hot.
    pub expiry_lag_ms: AtomicU64,
    /// From reading a write to its acknowledgement.
    pub write_time: Histogram,
    /// From a write's append to its commit.
    pub commit_time: Histogram,
    /// One sync of the log.
    pub log_sync_time: Histogram,
    /// Blocks appended to the log.
    pub log_blocks: Counter,
    /// Bytes appended to the log.
    pub log_bytes: Counter,
    /// Times this node took over from another that had not given the role away.
    pub failovers: Counter,
    /// Times this node took over as it was meant: by a switchover, after a planned stop, by force.
    pub switchovers: Counter,
    /// Times this node stopped being hot.
    pub demotions: Counter,
    /// From suspicion to serving, each time this node became hot.
    pub takeover_time: Histogram,
    /// Nodes removed from the in-sync set.
    pub shrinks: Counter,
    /// Nodes taken into the in-sync set.
    pub grows: Counter,
    /// Times a follower needed a full copy, or the rest of one.
    pub full_syncs: Counter,
    /// Full copies that broke off and went on where they were.
    pub full_syncs_resumed: Counter,
    /// Bytes of full copies given to the transport, those that were sent again included.
    pub full_sync_sent_bytes: Counter,
    /// Suffixes put aside.
    pub cuts: Counter,
    /// Leases lost.
    pub lease_losses: Counter,
    /// Peers refused because their folder has forgotten something.
    pub amnesiacs: Counter,
    /// Hooks that failed or were dropped.
    pub hook_failures: Counter,
}

impl Metrics {
    /// Counts a note of the core; the group's state says from whom a role was taken.
    pub fn note(&self, note: &Note, state: Option<&GroupState>) {
        match note {
            Note::BecameHot { epoch, cause, polled, chosen, started } => {
                if state.is_none_or(|state| has_other_hot_before(state, *epoch)) {
                    let meant = ["released", "operator"].contains(&cause.word.as_str());
                    if meant { self.switchovers.inc() } else { self.failovers.inc() }
                }
                self.takeover_time.observe(*polled + *chosen + *started);
            }
            Note::HandedOver { .. } | Note::StoppedBeingHot { .. } => self.demotions.inc(),
            Note::Shrunk { nodes, .. } => self.shrinks.add(nodes.len() as u64),
            Note::Grown { .. } => self.grows.inc(),
            Note::Cut { .. } => self.cuts.inc(),
            Note::RefusedAmnesiac { .. } => self.amnesiacs.inc(),
            Note::LeaseLost => self.lease_losses.inc(),
            Note::FullSync { .. } => self.full_syncs.inc(),
            Note::Follows { .. }
            | Note::Stands { .. }
            | Note::Defers { .. }
            | Note::NotAdmitted { .. }
            | Note::LeaseHeld
            | Note::DeathAttested { .. } => {}
        }
    }

    /// The text that Prometheus scrapes.
    #[must_use]
    pub fn text(&self, status: &Status) -> String {
        let mut page = Page::default();
        state(&mut page, status);
        members(&mut page, status);
        self.clients(&mut page);
        self.data(&mut page);
        self.group(&mut page);
        process(&mut page);
        page.0
    }

    fn clients(&self, page: &mut Page) {
        page.counter("hotwarm_client_connections_total", "Client connections accepted.", &self.connections);
        page.counter(
            "hotwarm_client_connections_refused_total",
            "Client connections refused.",
            &self.connections_refused,
        );
        page.head("hotwarm_commands_total", "counter", "Commands received, by kind.");
        page.sample("hotwarm_commands_total", &[("kind", "read")], self.reads.value());
        page.sample("hotwarm_commands_total", &[("kind", "write")], self.writes.value());
        page.counter("hotwarm_command_errors_total", "Commands answered with an error.", &self.command_errors);
        page.counter("hotwarm_commands_forwarded_total", "Commands sent on to the hot.", &self.forwarded);
        page.counter("hotwarm_commands_held_total", "Commands that waited for a hot.", &self.held);
        page.counter(
            "hotwarm_commands_hold_refused_total",
            "Commands refused while there was no hot.",
            &self.hold_refused,
        );
        page.counter("hotwarm_duplicates_total", "Retries recognised and not executed again.", &self.duplicates);
        page.counter("hotwarm_keys_expired_total", "Keys removed at their time, untouched.", &self.expired);
        page.gauge(
            "hotwarm_expiry_lag_seconds",
            "How long the key that is removed next is past its time.",
            self.expiry_lag_ms.load(Relaxed) as f64 / 1e3,
        );
        page.histogram("hotwarm_write_seconds", "From reading a write to its acknowledgement.", &self.write_time);
    }

    fn data(&self, page: &mut Page) {
        page.histogram("hotwarm_commit_seconds", "From a write's append to its commit.", &self.commit_time);
        page.histogram("hotwarm_log_sync_seconds", "One sync of the log.", &self.log_sync_time);
        page.counter("hotwarm_log_blocks_total", "Blocks appended to the log.", &self.log_blocks);
        page.counter("hotwarm_log_bytes_total", "Bytes appended to the log.", &self.log_bytes);
    }

    fn group(&self, page: &mut Page) {
        page.counter("hotwarm_failovers_total", "Times this node took over unplanned.", &self.failovers);
        page.counter("hotwarm_switchovers_total", "Times this node took over as planned.", &self.switchovers);
        page.counter("hotwarm_demotions_total", "Times this node stopped being hot.", &self.demotions);
        page.histogram("hotwarm_takeover_seconds", "From suspicion to serving.", &self.takeover_time);
        page.counter("hotwarm_shrinks_total", "Nodes removed from the in-sync set.", &self.shrinks);
        page.counter("hotwarm_grows_total", "Nodes taken into the in-sync set.", &self.grows);
        page.counter("hotwarm_full_syncs_total", "Times a full copy began or went on.", &self.full_syncs);
        page.counter("hotwarm_full_syncs_resumed_total", "Full copies that went on.", &self.full_syncs_resumed);
        page.counter("hotwarm_full_sync_sent_bytes_total", "Full copies sent.", &self.full_sync_sent_bytes);
        page.counter("hotwarm_log_cuts_total", "Diverged suffixes put aside.", &self.cuts);
        page.counter("hotwarm_lease_losses_total", "Leases lost.", &self.lease_losses);
        page.counter("hotwarm_amnesiacs_total", "Peers refused for a forgetful folder.", &self.amnesiacs);
        page.counter("hotwarm_hook_failures_total", "Hooks that failed or were dropped.", &self.hook_failures);
    }
}

/// Whether the hot of an epoch took the role from another node. A change that the ring has lost is no beginning: it was one.
fn has_other_hot_before(state: &GroupState, epoch: Epoch) -> bool {
    let change = state.changes.iter().find_map(|change| match (change.epoch == epoch, &change.kind) {
        (true, ChangeKind::Bootstrap) => Some(false),
        (
            true,
            ChangeKind::Promote { from, to }
            | ChangeKind::HandOver { from, to }
            | ChangeKind::ForcePromote { from, to },
        ) => Some(from != to),
        _other_change => None,
    });
    change.unwrap_or(true)
}

fn state(page: &mut Page, status: &Status) {
    let node = &status.node;
    page.head("hotwarm_build_info", "gauge", "Version of the program; always 1.");
    page.sample("hotwarm_build_info", &[("version", &status.program)], 1);
    page.head("hotwarm_role", "gauge", "1 for the role that this node has, 0 for the others.");
    for role in Role::ALL {
        page.sample("hotwarm_role", &[("role", role.word())], u8::from(role == node.role));
    }
    page.gauge("hotwarm_serves", "Whether commands can be answered through this node.", u8::from(node.serves));
    page.gauge("hotwarm_epoch", "Number of the reign.", status.epoch);
    page.gauge("hotwarm_register_version", "Version of the group's state.", status.register_version);
    page.gauge("hotwarm_durable_lsn", "End of the durable log.", node.durable_lsn);
    page.gauge("hotwarm_committed_lsn", "Commit position.", node.committed_lsn);
    page.gauge("hotwarm_applied_lsn", "What the store holds durably.", node.applied_lsn);
    page.gauge("hotwarm_visible_lsn", "Up to where reads on this node see.", node.visible_lsn);
    page.gauge("hotwarm_lease_held", "Whether the lease holds.", u8::from(node.lease_held));
    page.gauge("hotwarm_guardian_present", "Whether a guardian watches this node.", u8::from(node.guardian));
    page.gauge("hotwarm_throttled", "Whether writes wait for room.", u8::from(node.throttled));
    page.gauge(
        "hotwarm_clock_step_seconds",
        "How far the wall clock is ahead of group time (behind: below 0), where that is not followed; else 0.",
        node.clock_step_ms.unwrap_or(0) as f64 / 1e3,
    );
    page.gauge("hotwarm_commands_held", "Commands that wait for a hot now.", node.held);
    page.gauge("hotwarm_client_connections", "Client connections now.", node.clients);
    page.gauge("hotwarm_paused", "Whether maintenance is on.", u8::from(status.pause.is_some()));
    page.gauge("hotwarm_drift_keys", "Keys on which file and register differ.", status.drift.len());
    page.gauge("hotwarm_complaints", "What an operator should look at.", status.complaints.len());
}

fn members(page: &mut Page, status: &Status) {
    page.head("hotwarm_member_connected", "gauge", "Whether a connection to the member stands.");
    for member in &status.members {
        page.sample("hotwarm_member_connected", &[("member", &member.name)], u8::from(member.connected));
    }
    page.head("hotwarm_member_in_sync", "gauge", "Whether the member is in the in-sync set.");
    for member in &status.members {
        page.sample("hotwarm_member_in_sync", &[("member", &member.name)], u8::from(member.in_sync));
    }
    let lagging = || status.members.iter().filter(|member| member.name != status.node.name);
    page.head("hotwarm_replication_lag_entries", "gauge", "Writes that the member has not acknowledged.");
    for (member, lag) in lagging().filter_map(|member| Some((member, member.lag_entries?))) {
        page.sample("hotwarm_replication_lag_entries", &[("member", &member.name)], lag);
    }
    page.head("hotwarm_replication_lag_bytes", "gauge", "Bytes that the member has not acknowledged.");
    for (member, lag) in lagging().filter_map(|member| Some((member, member.lag_bytes?))) {
        page.sample("hotwarm_replication_lag_bytes", &[("member", &member.name)], lag);
    }
    page.head(
        "hotwarm_replication_lag_seconds",
        "gauge",
        "Age of the oldest write that the member has not acknowledged.",
    );
    for (member, lag) in lagging().filter_map(|member| Some((member, member.lag_ms?))) {
        page.sample("hotwarm_replication_lag_seconds", &[("member", &member.name)], seconds(lag * 1000));
    }
}

/// The memory that this process holds, where /proc tells.
pub(crate) fn resident_memory_bytes() -> Option<u64> {
    let memory = std::fs::read_to_string("/proc/self/status").ok()?;
    let resident = memory.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    resident?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// What every process shows under the names that dashboards expect. Where /proc is not to be had it is left out.
fn process(page: &mut Page) {
    if let Some(size_bytes) = resident_memory_bytes() {
        page.gauge("process_resident_memory_bytes", "Resident memory.", size_bytes);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        page.gauge("process_open_fds", "Open file descriptors.", files.count());
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// A page under construction.
#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{open}{label}=\"{escaped}\"");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, counter: &Counter) {
        self.head(name, "counter", help);
        self.sample(name, &[], counter.value());
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        let mut total = 0;
        for (count, bound) in histogram.counts.iter().zip(BUCKETS_US) {
            total += count.load(Relaxed);
            self.sample(&bucket, &[("le", &seconds(bound).to_string())], total);
        }
        total += histogram.counts[BUCKETS_US.len()].load(Relaxed);
        self.sample(&bucket, &[("le", "+Inf")], total);
        self.sample(&format!("{name}_sum"), &[], seconds(histogram.sum_us.load(Relaxed)));
        self.sample(&format!("{name}_count"), &[], total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests_support::healthy;
    use hotwarm_core::register::Cause;
    use hotwarm_types::NodeId;
    use std::collections::BTreeMap;

    fn page(metrics: &Metrics) -> String {
        metrics.text(&Status::of(&healthy()))
    }

    #[test]
    fn every_sample_has_a_head_of_its_own_and_no_name_comes_twice() {
        let text = page(&Metrics::default());
        let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(kinds.insert(name, kind), None, "{name} twice");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                let known = kinds.contains_key(name) || family.is_some_and(|name| kinds[name] == "histogram");
                assert!(known, "{name} has no head");
                assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(kinds.len() > 40, "{}", kinds.len());
    }

    #[test]
    fn a_histogram_counts_into_the_first_bucket_that_holds() {
        let metrics = Metrics::default();
        for ms in [1, 2, 30, 60_000] {
            metrics.takeover_time.observe(Duration::from_millis(ms));
        }
        let text = page(&metrics);
        for wanted in [
            "hotwarm_takeover_seconds_bucket{le=\"0.0005\"} 0",
            "hotwarm_takeover_seconds_bucket{le=\"0.001\"} 1",
            "hotwarm_takeover_seconds_bucket{le=\"0.05\"} 3",
            "hotwarm_takeover_seconds_bucket{le=\"10\"} 3",
            "hotwarm_takeover_seconds_bucket{le=\"+Inf\"} 4",
            "hotwarm_takeover_seconds_sum 60.033",
            "hotwarm_takeover_seconds_count 4",
        ] {
            assert!(text.contains(&format!("{wanted}\n")), "{wanted} in:\n{text}");
        }
    }

    #[test]
    fn state_and_lag_come_from_the_status() {
        let text = page(&Metrics::default());
        for wanted in [
            "hotwarm_role{role=\"hot\"} 1",
            "hotwarm_role{role=\"warm\"} 0",
            "hotwarm_replication_lag_entries{member=\"b\"} 2",
            "hotwarm_committed_lsn 1040",
        ] {
            assert!(text.contains(&format!("{wanted}\n")), "{wanted} in:\n{text}");
        }
        assert!(!text.contains("lag_entries{member=\"a\"}"), "a node has no lag behind itself");
    }

    #[test]
    fn only_a_takeover_from_another_counts_and_a_planned_one_apart() {
        let state = |kind| {
            let mut state = healthy().state.unwrap();
            state.changes.back_mut().unwrap().kind = kind;
            state
        };
        let (me, other) = (NodeId(1), NodeId(2));
        let counted = |word: &str, kind| {
            let metrics = Metrics::default();
            let cause = Cause { word: word.to_owned(), evidence: String::new() };
            let no = Duration::ZERO;
            let note = Note::BecameHot { epoch: Epoch(7), cause, polled: no, chosen: no, started: no };
            metrics.note(&note, Some(&state(kind)));
            (metrics.failovers.value(), metrics.switchovers.value())
        };
        assert_eq!(counted("init", ChangeKind::Bootstrap), (0, 0));
        assert_eq!(counted("restart", ChangeKind::Promote { from: me, to: me }), (0, 0));
        assert_eq!(counted("released", ChangeKind::Promote { from: me, to: me }), (0, 0));
        assert_eq!(counted("crash_attested", ChangeKind::Promote { from: other, to: me }), (1, 0));
        assert_eq!(counted("released", ChangeKind::Promote { from: other, to: me }), (0, 1));
        assert_eq!(counted("operator", ChangeKind::HandOver { from: other, to: me }), (0, 1));
    }

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.sample("x", &[("a", "q\"b\\s\nn")], 1);
        assert_eq!(page.0, "x{a=\"q\\\"b\\\\s\\nn\"} 1\n");
    }
}
