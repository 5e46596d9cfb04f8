//! `hotwarm node`: who belongs to the group.

use super::group::report;
use crate::failure::Failure;
use crate::flags::{Authority, Common, NodeChange, With};
use crate::nodes::Nodes;
use crate::render::{json, text};
use crate::{Verdict, print};
use hotwarm_core::register::MemberRole;
use hotwarm_node::admin::{AddRequest, Done, NameRequest};
use hotwarm_node::birth::{self, Invitee};

/// Adds, replaces, removes or lists.
pub fn node(change: NodeChange) -> Result<Verdict, Failure> {
    match change {
        NodeChange::Add(With { common, own }) => {
            let (name, address) = (own.member.name, Some(own.member.address));
            let request = AddRequest { name, address, witness: Some(own.witness), priority: own.priority };
            invite(&common, "/node/add", request, &own.authority)
        }
        NodeChange::Replace(With { common, own }) => {
            let request = AddRequest { name: own.member, address: own.address, witness: None, priority: None };
            invite(&common, "/node/replace", request, &own.authority)
        }
        NodeChange::Remove(With { common, own }) => {
            let name = own.member;
            let done: Done = Nodes::find(&common)?.post("/node/remove", &NameRequest { name: name.clone() })?;
            let state = done.group_state().map_err(Failure::new)?;
            report(&common, &done, |_| text::removed(&name, &state))
        }
        NodeChange::List(common) => {
            let done: Done = Nodes::find(&common)?.get("/state")?;
            let state = done.group_state().map_err(Failure::new)?;
            print(&if common.json { json::state(&state) } else { text::state(&state) })?;
            Ok(Verdict::Yes)
        }
    }
}

/// Invites a node and makes its folder. The authority is tried first, so that a wrong one leaves no invitation behind.
fn invite(common: &Common, route: &str, request: AddRequest, authority: &Authority) -> Result<Verdict, Failure> {
    birth::Authority::load(&authority.ca)?;
    let out = authority.out.as_ref().unwrap_or(&authority.ca);
    if out.join(&request.name).exists() {
        let folder = out.join(&request.name);
        return Err(Failure::new(format!(
            "{} exists: keys and tickets are never overwritten; move it away or choose another --out",
            folder.display()
        )));
    }
    let done: Done = Nodes::find(common)?.post(route, &request)?;
    let state = done.group_state().map_err(Failure::new)?;
    let name = request.name;
    let witness = state.invited.get(&name).is_some_and(|invitation| invitation.role == MemberRole::Witness);
    let then = if witness { "votes" } else { "copies the data, and enters the in-sync set" };
    let folder = Invitee { name: name.clone(), state }
        .write(&authority.ca, out)
        .map_err(|error| Failure::because(&format!("{name} is invited, but its folder could not be made"), &error))?;
    report(common, &done, |_| {
        format!(
            "{name} is invited. Copy {} to it as its tls_dir, put it into [nodes] of the file, and start it:\n  \
             hotwarm run --node {name}\nIt joins by itself, and {then}.\n",
            folder.display()
        )
    })
}
