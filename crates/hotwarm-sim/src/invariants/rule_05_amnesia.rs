//! R5: a folder that has forgotten something neither votes, nor acknowledges, nor stands under its old identity.

use super::{Fact, Judge, Verdict, View};
use hotwarm_core::{Grant, Message, Output};

#[derive(Debug, Default)]
pub(super) struct Amnesia;

impl Judge for Amnesia {
    fn observe(&mut self, view: &View<'_>, fact: &Fact<'_>) -> Verdict {
        let Fact::Ordered { machine, output: Output::Send { to, message } } = fact else { return Ok(()) };
        if !view.machines[*machine].amnesiac {
            return Ok(());
        }
        let counts = matches!(
            message,
            Message::Promise { .. }
                | Message::Accepted { .. }
                | Message::Accept { .. }
                | Message::Ack { .. }
                | Message::BeaconAnswer { grant: Grant::Granted, .. }
                | Message::Verified { .. }
        );
        if !counts {
            return Ok(());
        }
        let name = view.name(*machine);
        Err(("R5", format!("{name}, whose folder is an older one, says {} to {to}", message.name())))
    }
}
