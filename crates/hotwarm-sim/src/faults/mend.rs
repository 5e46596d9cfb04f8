//! How faults end.

use crate::clock::MS;
use crate::world::{Event, World};
use hotwarm_core::register::Timing;

/// How a fault ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mend {
    /// Packets pass again.
    Path {
        /// The link.
        link: usize,
        /// The direction.
        direction: usize,
    },
    /// Delay and loss are as at first.
    Quality {
        /// The link.
        link: usize,
    },
    /// The disk is as fast as at first.
    Disk {
        /// The machine.
        machine: usize,
    },
    /// Its files fail no more, and there is room for them.
    Files {
        /// The machine.
        machine: usize,
    },
    /// Clients reach the machine again.
    Clients {
        /// The machine.
        machine: usize,
    },
}

impl World {
    /// Ends a fault.
    pub(crate) fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Path { link, direction } => self.uncut(link, direction),
            Mend::Quality { link } => {
                for path in &mut self.network.links[link].paths {
                    path.delay = self.plan.delay;
                    path.loss_per_mille = self.plan.loss_per_mille;
                }
            }
            Mend::Disk { machine } => self.machines[machine].sync = self.plan.sync,
            Mend::Files { machine } => {
                let files = &self.machines[machine].disk.files;
                files.heal();
                files.set_capacity(1 << 40);
            }
            Mend::Clients { machine } => self.machines[machine].clients_cut = false,
        }
    }

    /// Ends all faults: everything is mended, goes on, or starts.
    pub(crate) fn mend_all(&mut self) {
        self.trace.line(self.now, format_args!("-- all faults end"));
        // A network on which the group can rest: loss and long tails alone would keep the tightest timers busy.
        let grace = self.plan.settings.timing.grace.min(Timing::FAST.grace).as_nanos() as u64;
        self.plan.think = self.plan.think.min(100 * MS);
        self.plan.loss_per_mille = 0;
        self.plan.delay = self.plan.delay.min(grace / 200);
        self.plan.sync = self.plan.sync.min(grace / 200);
        for link in 0..self.network.links.len() {
            self.mend(Mend::Quality { link });
            for direction in [0, 1] {
                self.mend(Mend::Path { link, direction });
            }
        }
        for machine in 0..self.machines.len() {
            self.mend(Mend::Disk { machine });
            self.mend(Mend::Clients { machine });
            self.mend(Mend::Files { machine });
            self.machines[machine].disk_stalled_until = 0;
            if self.machines[machine].paused_until.is_some() {
                self.machines[machine].paused_until = Some(self.now);
                let boot = self.machines[machine].process.as_ref().map_or(0, |process| process.boot);
                self.after(0, Event::Resume { machine, boot });
            }
            if self.machines[machine].process.is_none() {
                self.after(100 * MS, Event::Start { machine });
            }
        }
    }
}
