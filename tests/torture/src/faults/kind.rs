//! Every kind of fault, with its row in the project's fault list and what it may lead to.

use serde::Serialize;

/// What kind of takeover a fault leads to: the classes whose times are promised apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The node died and its guardian attested it.
    CrashAttested,
    /// Node and guardian died: the grace must pass.
    CrashUnattested,
    /// The hot stood still.
    Pause,
    /// The hot could not reach the others.
    Cut,
    /// The role was handed over.
    Switchover,
    /// Another cause: a disk, a limit, several faults at once.
    Other,
}

impl Class {
    /// Its word in the report.
    pub fn word(self) -> &'static str {
        match self {
            Self::CrashAttested => "crash_attested",
            Self::CrashUnattested => "crash_unattested",
            Self::Pause => "pause",
            Self::Cut => "cut",
            Self::Switchover => "switchover",
            Self::Other => "other",
        }
    }

    /// The 99th percentile that is promised at default timers, in milliseconds.
    pub fn promised_p99_ms(self) -> Option<f64> {
        match self {
            Self::CrashAttested => Some(300.0),
            Self::CrashUnattested | Self::Pause | Self::Cut => Some(1_500.0),
            Self::Switchover | Self::Other => None,
        }
    }
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal, $row:literal, $class:expr, $weight:literal;)+) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Kind {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its word on the command line and in the report.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// Its row in the fault list: `F1`, or the rule or check that it tries.
            pub fn row(self) -> &'static str {
                match self { $(Self::$name => $row,)+ }
            }

            /// The takeover that it may lead to; `None`: any change of hot in its course is needless.
            pub fn class(self) -> Option<Class> {
                match self { $(Self::$name => $class,)+ }
            }

            /// How often it is drawn, beside the others.
            pub fn weight(self) -> u64 {
                match self { $(Self::$name => $weight,)+ }
            }

            /// What it does, in a sentence.
            pub fn what(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc,)+).trim_ascii(),)+ }
            }
        }
    };
}

kinds! {
    /// The hot's node is killed; its guardian lives.
    KillHot = "kill_hot", "F1", Some(Class::CrashAttested), 12;
    /// Guardian and node of the hot are killed.
    KillBoth = "kill_both", "F1", Some(Class::CrashUnattested), 6;
    /// A warm's node is killed; its guardian lives.
    KillWarm = "kill_warm", "F2", None, 4;
    /// Guardian and node of a warm are killed.
    KillBothWarm = "kill_both_warm", "F2", None, 2;
    /// The guardian alone is killed: the node says so, goes on, and is stopped and started.
    KillGuardian = "kill_guardian", "R20", Some(Class::Switchover), 2;
    /// The hot is killed, and whoever takes over is killed as soon as it serves.
    KillPromoted = "kill_promoted", "F33, C12", Some(Class::CrashAttested), 3;
    /// Hot and one warm are killed at once.
    KillTwo = "kill_two", "F33", Some(Class::Other), 2;
    /// Every node and guardian is killed at once.
    KillAll = "kill_all", "F4", Some(Class::Other), 2;
    /// A replaced warm is killed while it receives its full copy.
    KillDuringCopy = "kill_during_copy", "F3, C14", None, 2;
    /// A hot that was cut off with writes of its own is killed while it comes back and cuts them.
    KillDuringCut = "kill_during_cut", "F3, C13", Some(Class::Cut), 2;
    /// One node after another is killed, every second or so.
    RestartStorm = "restart_storm", "F21", Some(Class::CrashAttested), 2;
    /// One node after the other is stopped and started, the hot last.
    RollingRestart = "rolling_restart", "F22", Some(Class::Switchover), 2;
    /// The role is handed over.
    Switchover = "switchover", "F22, R21", Some(Class::Switchover), 3;
    /// Guardian and node of the hot stand still for half a lease.
    PauseShort = "pause_short", "F5, C41", None, 3;
    /// Guardian and node of the hot stand still for one to ten leases.
    Pause = "pause", "F5", Some(Class::Pause), 8;
    /// The hot's machine is frozen, all processes at once.
    Freeze = "freeze", "F5", Some(Class::Pause), 3;
    /// The hot's node stands still and its guardian does not: it kills the node at the lease's end.
    Hang = "hang", "F5, R20", Some(Class::Other), 3;
    /// Guardian and node of a warm stand still.
    PauseWarm = "pause_warm", "F5", None, 2;
    /// The hot is cut off from everybody.
    CutHot = "cut_hot", "F7", Some(Class::Cut), 6;
    /// The hot is cut off from the other nodes; its clients still reach it.
    CutFromPeers = "cut_from_peers", "F7, C5", Some(Class::Cut), 5;
    /// A warm is cut off from everybody.
    CutWarm = "cut_warm", "F7", None, 3;
    /// The hot and one warm cannot reach each other; all others can.
    CutPair = "cut_pair", "F9, C27", Some(Class::Other), 3;
    /// The hot hears nobody; the others hear it.
    CutInward = "cut_inward", "F8", Some(Class::Other), 3;
    /// Nobody hears the hot; it hears the others.
    CutOutward = "cut_outward", "F8", Some(Class::Cut), 3;
    /// One packet in fifty is lost everywhere.
    LoseFew = "lose_few", "F10, C41", None, 2;
    /// Almost a third of the packets between hot and others are lost.
    LoseMany = "lose_many", "F10", Some(Class::Other), 2;
    /// Every packet takes 200 ms more to and from one node, give or take.
    Delay = "delay", "F10", Some(Class::Other), 2;
    /// A third of the packets is overtaken by others.
    Reorder = "reorder", "F10", None, 2;
    /// One packet in five comes twice.
    Duplicate = "duplicate", "F10", None, 2;
    /// The hot's line carries 1 Mbit/s.
    Throttle = "throttle", "F10", Some(Class::Other), 2;
    /// What the hot sends is held for seconds and then delivered, an epoch late.
    Hold = "hold", "F11, C4", Some(Class::Cut), 3;
    /// Every connection between two nodes is reset, for seconds.
    Resets = "resets", "F11", Some(Class::Other), 2;
    /// The hot's link is down and up, a second each.
    Flap = "flap", "F24", Some(Class::Cut), 2;
    /// A disk is full.
    DiskFull = "disk_full", "F13", Some(Class::Other), 2;
    /// Syncs of a node fail with EIO for a moment, and succeed after it.
    SyncFails = "sync_fails", "F14, C28", Some(Class::Other), 3;
    /// The disk of a node takes a few writes a second.
    SlowDisk = "slow_disk", "F12", Some(Class::Other), 2;
    /// The hot gets a tenth of a processor.
    LittleCpu = "little_cpu", "F25", Some(Class::Other), 2;
    /// A node gets less memory than it has.
    LittleMemory = "little_memory", "F20", Some(Class::Other), 2;
    /// A node may start no further thread or process.
    NoMoreThreads = "no_more_threads", "F19", None, 1;
    /// A warm's folder is lost; it is replaced as the documents say.
    WipedFolder = "wiped_folder", "F17, C15", None, 2;
    /// A warm comes back with an older folder: it must be refused, and is replaced.
    OldFolder = "old_folder", "F17, C15", None, 2;
    /// A node starts with a clock since boot that is days off.
    BootClock = "boot_clock", "F6", Some(Class::Switchover), 2;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn words_are_unique_and_are_the_ones_of_the_report() {
        let words: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.word()).collect();
        assert_eq!(words.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
            assert!(kind.weight() > 0 && kind.what().ends_with('.'), "{kind:?}");
        }
    }
}
