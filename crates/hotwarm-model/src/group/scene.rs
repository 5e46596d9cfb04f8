//! What a check of the group begins with: its clocks, how much may happen, and which faults are looked at.

use super::Step;

/// How much may happen in one order of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Steps of time, half a second each.
    pub ticks: u8,
    /// Writes that clients bring.
    pub writes: u8,
    /// Crashes of a process, whose death its guardian attests or not.
    pub crashes: u8,
    /// Starts of a process that crashed.
    pub restarts: u8,
    /// Cuts of a path between two nodes, one way or both; what is sent is held.
    pub cuts: u8,
    /// Connections that break, with all that is on its way.
    pub breaks: u8,
    /// Processes that are stopped for a while.
    pub pauses: u8,
}

impl Budget {
    /// How much of what.
    #[must_use]
    pub fn counted(&self) -> [(u8, &'static str); 7] {
        let Self { ticks, writes, crashes, restarts, cuts, breaks, pauses } = *self;
        [
            (ticks, "half seconds"),
            (writes, "writes"),
            (crashes, "crashes"),
            (restarts, "restarts"),
            (cuts, "cuts"),
            (breaks, "broken connections"),
            (pauses, "pauses"),
        ]
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens in it, for a person.
    pub about: &'static str,
    /// How much may happen.
    pub budget: Budget,
    /// How fast the clock of each node runs, in percent.
    pub rates: [u64; 3],
    /// Which faults are looked at: all of them, or those of one long story, of which every order is.
    pub faults: fn(Step) -> bool,
}

const EVEN: [u64; 3] = [100; 3];
const NOTHING: Budget = Budget { ticks: 0, writes: 0, crashes: 0, restarts: 0, cuts: 0, breaks: 0, pauses: 0 };

fn any(_: Step) -> bool {
    true
}

/// The hot crashes, attested, with what it ordered on its disk.
fn attested_death_of_the_hot(step: Step) -> bool {
    match step {
        Step::Crash { machine, attested, written } => machine == 0 && attested && written,
        _ => true,
    }
}

/// The hot is stopped.
fn frozen_hot(step: Step) -> bool {
    !matches!(step, Step::Pause(machine) if machine != 0)
}

/// The two data nodes lose each other, and the hot dies, attested.
fn lost_warm(step: Step) -> bool {
    match step {
        Step::Cut(link, cut) => link == 0 && cut == [true, true],
        step => attested_death_of_the_hot(step),
    }
}

/// All of them: first those with every fault, then long stories.
pub const SCENES: [Scene; 9] = [
    Scene {
        name: "calm",
        about: "nothing fails: every order of messages, timers and syncs around two writes",
        budget: Budget { ticks: 4, writes: 2, ..NOTHING },
        rates: EVEN,
        faults: any,
    },
    Scene {
        name: "crash",
        about: "a process crashes in the middle of a write, attested or not, and comes back",
        budget: Budget { ticks: 4, writes: 1, crashes: 1, restarts: 1, ..NOTHING },
        rates: EVEN,
        faults: any,
    },
    Scene {
        name: "cut",
        about: "a path is cut, one way or both, and heals, around two writes",
        budget: Budget { ticks: 5, writes: 2, cuts: 1, ..NOTHING },
        rates: EVEN,
        faults: any,
    },
    Scene {
        name: "drift",
        about: "the hot is stopped while its clock is as slow as it may be, and the warm's as fast",
        budget: Budget { ticks: 5, writes: 1, pauses: 1, ..NOTHING },
        rates: [95, 105, 100],
        faults: frozen_hot,
    },
    Scene {
        name: "pause",
        about: "a process is stopped and goes on, around two writes",
        budget: Budget { ticks: 5, writes: 2, pauses: 1, ..NOTHING },
        rates: EVEN,
        faults: any,
    },
    Scene {
        name: "storm",
        about: "a crash, a cut and a broken connection, around two writes",
        budget: Budget { ticks: 6, writes: 2, crashes: 1, restarts: 1, cuts: 1, breaks: 1, ..NOTHING },
        rates: EVEN,
        faults: any,
    },
    Scene {
        name: "return",
        about: "the hot dies with a write that nobody else may have, another takes over, and it comes back",
        budget: Budget { ticks: 2, writes: 1, crashes: 1, restarts: 1, ..NOTHING },
        rates: EVEN,
        faults: attested_death_of_the_hot,
    },
    Scene {
        name: "frozen",
        about: "the hot is stopped until another takes over, and goes on at any moment",
        budget: Budget { ticks: 3, pauses: 1, ..NOTHING },
        rates: EVEN,
        faults: frozen_hot,
    },
    Scene {
        name: "left",
        about: "the warm is cut off and removed, may catch up and return, and the hot dies at any moment",
        budget: Budget { ticks: 3, writes: 2, crashes: 1, cuts: 1, ..NOTHING },
        rates: EVEN,
        faults: lost_warm,
    },
];
