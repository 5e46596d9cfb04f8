//! What a node's shell orders of its disk: log and vote record, the state machine's own writes.
//!
//! An order is done when its device says so, and only then is it reported (unless a planted bug lies). The judges see
//! what has been reported at that moment.

use crate::bugs::Bug;
use crate::clock::MS;
use crate::devices::{DeviceKind, LogOrder, Work};
use crate::invariants::Fact;
use crate::log::Misfit;
use crate::machine::Stimulus;
use crate::outcome::Kind;
use crate::world::{Event, World};
use hotwarm_core::Input;
use hotwarm_core::register::Vote;
use hotwarm_log::{Keep, LogError};
use hotwarm_types::{Block, Lsn, Token, Version};

/// How often a full disk is looked at again.
const SPACE_INTERVAL: u64 = 250 * MS;

impl World {
    pub(crate) fn order_vote(&mut self, index: usize, token: Token, mut vote: Vote) {
        if let Some((_, state)) = &vote.accepted
            && let Err(contradiction) = self.ledger.proposed(state)
        {
            return self.contradiction(contradiction);
        }
        if self.bug == Some(Bug::EpochForgotten) {
            vote.epoch = self.machines[index].disk.vote.epoch;
        }
        let Some(process) = &mut self.machines[index].process else { return };
        let boot = process.boot;
        process.votes.order(token, vote);
        if self.bug == Some(Bug::VoteNotSynced) {
            self.after(1_000, Event::Tell { machine: index, boot, fact: Box::new(Input::Persisted { token }) });
        }
        self.work_on(index, DeviceKind::Vote);
    }

    pub(crate) fn order_append(&mut self, index: usize, token: Token, block: Block) {
        if self.machines[index].process.as_ref().is_some_and(|process| process.node.id().is_none()) {
            return self.fail(Kind::Safety, "INV-1", format!("{} appends and is no member", self.machines[index].name));
        }
        let Some(process) = &mut self.machines[index].process else { return };
        let prev = process.log.end();
        match process.log.append(block.clone()) {
            Ok(()) => {}
            Err(misfit) => return self.misfit(index, misfit),
        }
        if self.ledger.appended(prev, &block) {
            self.judge(&Fact::Originated { machine: index, block: &block, prev });
        }
        self.stage(index, &block);
        self.order_log(index, LogOrder::Append { token, block });
    }

    pub(crate) fn order_cut(&mut self, index: usize, token: Token, last: Lsn) {
        let Some(process) = &mut self.machines[index].process else { return };
        let boot = process.boot;
        if self.bug == Some(Bug::TruncationSkipped) {
            return self.after(MS, Event::Tell { machine: index, boot, fact: Box::new(Input::Persisted { token }) });
        }
        match process.log.cut(last) {
            Ok(()) => {
                if self.bug != Some(Bug::StateNotTruncated) {
                    self.truncate(index, last);
                }
                self.order_log(index, LogOrder::Cut { token, last });
            }
            Err(misfit) => self.misfit(index, misfit),
        }
    }

    pub(crate) fn order_log(&mut self, index: usize, order: LogOrder) {
        self.process(index, |process| process.log_device.order(order));
        self.work_on(index, DeviceKind::Log);
    }

    fn misfit(&mut self, index: usize, misfit: Misfit) {
        let what = format!("{}: {}", self.machines[index].name, misfit.0);
        self.fail(Kind::Safety, "INV-8", what);
    }

    /// Lets a device begin with what waits, unless it works already.
    fn work_on(&mut self, index: usize, device: DeviceKind) {
        let machine = &mut self.machines[index];
        let latency = self.rng.latency(machine.sync);
        let ready = machine.disk_stalled_until;
        let Some(process) = &mut machine.process else { return };
        let boot = process.boot;
        let (work, awaited) = match device {
            DeviceKind::Log if process.log_device.awaited => return,
            DeviceKind::Vote if process.votes.awaited => return,
            DeviceKind::Log => (process.log_device.begin(), &mut process.log_device.awaited),
            DeviceKind::Vote => (process.votes.begin(), &mut process.votes.awaited),
        };
        *awaited = work != Work::Idle;
        machine.traffic.orders += u64::from(work == Work::Begun);
        machine.traffic.no_room += u64::from(work == Work::NoRoom);
        let at = match work {
            Work::Idle => return,
            Work::Begun => (self.now + latency).max(ready) + 1,
            Work::NoRoom => self.now + SPACE_INTERVAL,
        };
        self.schedule(at, Event::Disk { machine: index, boot, device });
        if self.bug == Some(Bug::AckBeforeSync) && device == DeviceKind::Log {
            let begun = self.process(index, |process| process.log_device.begun().collect::<Vec<_>>());
            for token in begun.into_iter().flatten() {
                self.after(1_000, Event::Tell { machine: index, boot, fact: Box::new(Input::Persisted { token }) });
            }
        }
    }

    /// A device is done with what it has begun: the disk changes now, the process hears of it when it can.
    pub(crate) fn disk_done(&mut self, index: usize, boot: u64, device: DeviceKind) {
        let Some(process) = self.machines[index].process.as_mut().filter(|process| process.boot == boot) else {
            return;
        };
        match device {
            DeviceKind::Log => {
                process.log_device.awaited = false;
                self.log_done(index, boot);
            }
            DeviceKind::Vote => {
                process.votes.awaited = false;
                self.vote_done(index, boot);
            }
        }
        if self.machines[index].process.as_ref().is_some_and(|process| process.boot == boot) {
            self.work_on(index, device);
        }
    }

    fn log_done(&mut self, index: usize, boot: u64) {
        let Some(Some(mut done)) =
            self.process(index, |process| (process.boot == boot).then(|| process.log_device.finish()))
        else {
            return;
        };
        if self.bug == Some(Bug::FailedSyncTrusted) && done.failure.take().is_some() {
            self.process(index, |process| process.log_device.forget_failure());
        }
        let mut reports = Vec::new();
        for order in done.orders {
            if let Some(error) = &done.failure {
                // What the shell ordered itself (a whole copy) fails under no number.
                let token = order.token().unwrap_or(Token(0));
                let disk = &mut self.machines[index].disk;
                disk.cut_begun = order.takes_away_after().into_iter().chain(disk.cut_begun).min();
                reports.push(Stimulus::Fact(Input::PersistFailed { token, error: error.clone() }));
                continue;
            }
            let disk = &mut self.machines[index].disk;
            let applied = match &order {
                LogOrder::Append { block, .. } => disk.log.append(block.clone()),
                LogOrder::Cut { last, .. } => disk.log.cut(*last),
                LogOrder::Reset(install) => {
                    disk.put_to_use(install);
                    Ok(())
                }
            };
            if let Err(misfit) = applied {
                return self.misfit(index, misfit);
            }
            self.judge(&Fact::LogDurable);
            if self.bug == Some(Bug::CutNotKept) {
                self.machines[index].disk.lose_aside();
            }
            if let LogOrder::Cut { last, .. } = &order
                && let Some(what) = self.machines[index].disk.lacks_aside(*last)
            {
                let what = format!("{}: {what}", self.machines[index].name);
                return self.fail(Kind::Safety, "INV-8", what);
            }
            match order {
                LogOrder::Append { .. } if self.bug == Some(Bug::AckBeforeSync) => {}
                LogOrder::Append { token, .. } | LogOrder::Cut { token, .. } => {
                    reports.push(Stimulus::Fact(Input::Persisted { token }));
                }
                LogOrder::Reset(install) => reports.push(Stimulus::Installed(Box::new(install))),
            }
        }
        for report in reports {
            self.stimulate(index, boot, report);
        }
    }

    fn vote_done(&mut self, index: usize, boot: u64) {
        let oldest = self.bug == Some(Bug::VoteOutOfOrder);
        let Some(Some(done)) =
            self.process(index, |process| (process.boot == boot).then(|| process.votes.finish(oldest)))
        else {
            return;
        };
        if let (None, Some((_, vote))) = (&done.failure, done.orders.last()) {
            self.vote_is_durable(index, vote.clone());
        }
        for (token, _) in done.orders {
            match &done.failure {
                Some(error) => {
                    let fact = Input::PersistFailed { token, error: error.clone() };
                    self.stimulate(index, boot, Stimulus::Fact(fact));
                }
                None if self.bug == Some(Bug::VoteNotSynced) => {}
                None => self.stimulate(index, boot, Stimulus::Fact(Input::Persisted { token })),
            }
        }
    }

    /// A vote record is known to be on a disk.
    pub(crate) fn vote_is_durable(&mut self, index: usize, vote: Vote) {
        self.machines[index].disk.vote = vote;
        self.judge(&Fact::VoteDurable { machine: index });
        let Some(id) = self.id_of(index) else { return };
        match self.ledger.voted(id, &self.machines[index].disk.vote) {
            Ok(versions) => {
                for version in versions {
                    self.chosen(version);
                }
            }
            Err(contradiction) => self.contradiction(contradiction),
        }
    }

    fn chosen(&mut self, version: Version) {
        let Some(state) = self.ledger.choices.at(version).cloned() else { return };
        self.trace.line(
            self.now,
            format_args!(
                "register: {version} is chosen: reign {}, in sync {:?}, members {:?}, {:?}",
                state.reign,
                state.in_sync,
                state.members.keys(),
                state.changes.back().map(|record| &record.kind),
            ),
        );
        self.learn_members(&state);
        self.judge(&Fact::Chosen { state: &state });
        self.judge_refused();
    }

    /// Carries what is committed to the tree, every now and then, and has it flushed; looks after spare segments.
    pub(crate) fn flush(&mut self, index: usize, boot: u64) {
        let Some(process) = self.machines[index].process.as_mut().filter(|process| process.boot == boot) else {
            return;
        };
        if let Err(error) = process.feeder.feed() {
            let error = error.to_string();
            return self.feed(index, Input::PersistFailed { token: Token(0), error });
        }
        let ahead = process.log_device.log.ahead();
        let mut no_room = 0;
        if process.space_is_short || ahead.is_wanted() {
            match ahead.prepare() {
                Ok(_) => process.space_is_short = false,
                Err(LogError::NoSpace { .. }) => {
                    process.space_is_short = true;
                    no_room = 1;
                }
                // The log itself will meet it, or it has passed by then.
                Err(_) => {}
            }
        }
        self.machines[index].traffic.no_room += no_room;
        let wait = self.rng.latency(self.machines[index].sync) + MS;
        self.after(wait, Event::Flushed { machine: index, boot });
        let wait = self.plan.flush_interval / 4 + self.rng.below(2 * self.plan.flush_interval);
        self.after(wait, Event::Flush { machine: index, boot });
    }

    pub(crate) fn flushed(&mut self, index: usize, boot: u64) {
        let Some(process) = self.machines[index].process.as_ref().filter(|process| process.boot == boot) else {
            return;
        };
        match process.feeder.flush() {
            Ok(applied) => self.stimulate(index, boot, Stimulus::Flushed(applied)),
            Err(error) => {
                let fact = Input::PersistFailed { token: Token(0), error: error.to_string() };
                self.stimulate(index, boot, Stimulus::Fact(fact));
            }
        }
    }

    /// Drops what neither recovery, nor a follower, nor habit still needs from the log's front.
    pub(crate) fn trim(&mut self, index: usize, applied: Lsn) {
        let kept = self.plan.log_kept_bytes;
        let machine = &mut self.machines[index];
        let Some(process) = &mut machine.process else { return };
        let needed = applied.min(process.node.retain_after());
        let log = &mut process.log_device.log;
        if log.retain_after(needed, Keep { size_bytes: kept, since_ms: 0 }).is_ok() {
            let floor = log.floor().lsn;
            process.log.trim(floor);
            machine.disk.log.trim(floor);
        }
    }
}
