//! Every transition of the group's state as data: what ARCHITECTURE.md shows and tests compare with the code (R40).

use alloc::format;
use alloc::string::String;

/// One allowed change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The change's name, as `Change::name` gives it.
    pub name: &'static str,
    /// The states it starts from.
    pub from: &'static str,
    /// What must hold, beside the expected version where the wish names one.
    pub guard: &'static str,
    /// Who may wish it.
    pub who: &'static str,
    /// What is different afterwards. Every change but `read` also makes a new version and a record of itself.
    pub to: &'static str,
}

/// All of them, in the order of `Change`.
pub const TABLE: &[Transition] = &[
    Transition { name: "read", from: "any state", guard: "none", who: "any node", to: "the same state, same version" },
    Transition { name: "bump", from: "any state", guard: "none", who: "any node", to: "the same, a new version (R2)" },
    Transition {
        name: "bootstrap",
        from: "nothing accepted by any initial member (R4)",
        guard: "the birth state is whole: unique names and folders, a hot in sync, in-sync nodes hold data, valid settings",
        who: "the member that the birth state names hot",
        to: "version 1, the birth state with its reign",
    },
    Transition {
        name: "promote",
        from: "no pause, or the candidate is the last hot (R29)",
        guard: "candidate in sync (INV-4); new in-sync set within the old, with the candidate, at least min_copies (R12, R25)",
        who: "the candidate itself, in its present start (R1)",
        to: "epoch above the state's and all that the candidate has seen; hot = candidate; the new in-sync set",
    },
    Transition {
        name: "hand over",
        from: "the wisher's own reign",
        guard: "target in sync and not the hot (R21)",
        who: "the hot",
        to: "epoch + 1; hot = target; in-sync set kept",
    },
    Transition {
        name: "shrink",
        from: "the wisher's own reign",
        guard: "at least one node, all in sync, not the hot; at least min_copies stay (R12, R26)",
        who: "the hot",
        to: "in-sync set without them",
    },
    Transition {
        name: "grow",
        from: "the wisher's own reign",
        guard: "a member that holds data, not yet in sync (R27)",
        who: "the hot",
        to: "in-sync set with it",
    },
    Transition {
        name: "invite",
        from: "any state",
        guard: "valid name, priority, and address that no other has; room for it; a member of that name is not the only one in sync (R4)",
        who: "an operator, through any node",
        to: "an invitation, in the place of an earlier one of that name",
    },
    Transition {
        name: "admit",
        from: "an invitation of that name",
        guard: "a folder that is no member's; room for it; what it replaces is not hot and not the only one in sync, and min_copies stay (R4, R6)",
        who: "the node that an invited folder asked",
        to: "a new member with a number never used before, outside the in-sync set; what it replaces is gone; a new member list",
    },
    Transition {
        name: "remove",
        from: "an invitation or a member of that name",
        guard: "a member is neither hot nor in sync, and min_copies data members stay (INV-5, R6)",
        who: "an operator, through any node",
        to: "the invitation dropped, else a new member list without it",
    },
    Transition {
        name: "settings",
        from: "any state",
        guard: "timers keep their relations (R15, R22); min_copies 1 to the data members; lag bounds above zero; text within its limit",
        who: "an operator, through any node",
        to: "the new settings",
    },
    Transition {
        name: "pause",
        from: "any state",
        guard: "longer than nothing, at most seven days; a short reason",
        who: "an operator, through any node",
        to: "maintenance on, in the place of an earlier one (R29)",
    },
    Transition {
        name: "resume",
        from: "maintenance on",
        guard: "none",
        who: "an operator, or whoever finds it expired",
        to: "maintenance off",
    },
    Transition {
        name: "force promote",
        from: "any state",
        guard: "candidate holds data; a statement that the old hot is fenced (R8)",
        who: "an operator, through the candidate",
        to: "epoch above the state's and all that the candidate has seen, marked lossy; hot = candidate, alone in sync",
    },
];

impl Transition {
    /// Its row of the table, in Markdown.
    #[must_use]
    pub fn row(&self) -> String {
        format!("| {} | {} | {} | {} | {} |", self.name, self.from, self.guard, self.who, self.to)
    }
}

/// The whole table in Markdown, header included, a line break at the end.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from("| transition | from | guard | who may | to |\n| --- | --- | --- | --- | --- |\n");
    for transition in TABLE {
        text.push_str(&transition.row());
        text.push('\n');
    }
    text
}
