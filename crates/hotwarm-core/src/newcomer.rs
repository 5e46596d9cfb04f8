//! An invited folder on its way into the group: met first, then admitted (R4, R6).
//!
//! ```text
//!   asks to join --> met: connected under the number it would have --> both pass each other's hello --> admitted
//!                     |                                                                                  (by the hot)
//!                     +--- not connected in time, or its number or invitation is gone: it may ask again
//! ```
//!
//! A change of the acceptors needs a majority of the new list, and a group of one that becomes two has none without
//! the newcomer. So it is connected to before the register is asked: every member meets it, a majority passes its
//! hello (R5), and it answers as an acceptor in the very round that admits it. That round also shows that it is alive
//! and can be reached where its invitation says. It follows and counts only once its admission is known to be chosen.
//!
//! A node that missed an admission and restarts does not know the new member, which may need its trust to vote at all.
//! Then it hears of it from an acceptor that holds a newer list, and connects to those in it, chosen or not: to be
//! connected gives no right.

use crate::node::{Role, cause};
use crate::register::{Change, GroupState, Member};
use crate::requests::Purpose;
use crate::{Message, Node, Note, Output};
use alloc::collections::BTreeMap;
use alloc::string::String;
use core::time::Duration;
use hotwarm_types::{FolderId, Instant, NodeId, Version};

/// How long a newcomer has to become connected: several attempts to dial it.
const MEET_WAIT: Duration = Duration::from_secs(5);
/// Between two attempts to admit it.
const ADMIT_AGAIN: Duration = Duration::from_secs(1);

/// The one folder that is being met.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Newcomer {
    /// The number that its admission would give it.
    pub(crate) node: NodeId,
    pub(crate) member: Member,
    /// When it was last seen connected, or else asked.
    seen_at: Instant,
    /// The register is not asked before.
    try_at: Instant,
    /// Why it was refused last.
    refused: Option<String>,
}

impl Node {
    /// An invited, empty folder asks to be admitted. One at a time is met; whoever gets nowhere makes room for the next.
    pub(crate) fn join_asked(&mut self, now: Instant, name: String, folder: FolderId) {
        let Some(state) = self.state.as_ref().filter(|_| self.state_chosen) else { return };
        let Some(invitation) = state.invited.get(&name) else { return };
        if self.me.is_none() || state.members.values().any(|member| member.folder == folder) {
            return;
        }
        let node = state.next_node;
        if let Some(present) = &self.newcomer {
            let same = present.member.folder == folder && present.member.name == name;
            if same || (present.refused.is_none() && now.since(present.seen_at) <= MEET_WAIT) {
                return;
            }
        }
        let member = Member {
            name,
            folder,
            address: invitation.address.clone(),
            role: invitation.role,
            priority: invitation.priority,
        };
        if !self.is_met(node, folder) {
            self.links.remove(&node);
        }
        self.newcomer = Some(Newcomer { node, member, seen_at: now, try_at: now, refused: None });
        self.meet();
    }

    /// Admits the newcomer once it is met, where this node is the hot; gives up one that cannot be reached.
    pub(crate) fn newcomer_on_time(&mut self, now: Instant) {
        let draining = self.is_draining();
        let Some(newcomer) = &mut self.newcomer else { return };
        let link = self.links.get(&newcomer.node);
        if link.is_some_and(|link| link.up) {
            newcomer.seen_at = now;
        }
        if now.since(newcomer.seen_at) > MEET_WAIT {
            return self.part();
        }
        let met = link.is_some_and(crate::identity::Link::is_ready);
        let due = met && now >= newcomer.try_at && matches!(self.role, Role::Hot(_)) && self.purpose.is_none();
        if !due || draining {
            return;
        }
        newcomer.try_at = now + ADMIT_AGAIN;
        let (name, folder) = (newcomer.member.name.clone(), newcomer.member.folder);
        let evidence = alloc::format!("{name} asks with folder {folder}");
        self.wish(now, Purpose::Admit, None, Change::Admit { name, folder }, cause("join", evidence));
    }

    /// The register has refused the newcomer: said once for each reason, and tried again while it stays.
    pub(crate) fn admission_denied(&mut self, why: String) {
        let Some(newcomer) = &mut self.newcomer else { return };
        if newcomer.refused.as_ref() != Some(&why) {
            newcomer.refused = Some(why.clone());
            let name = newcomer.member.name.clone();
            self.note(Note::NotAdmitted { name, why });
        }
    }

    /// A state was chosen: it may have admitted the newcomer, or have no place for it any more.
    pub(crate) fn newcomer_in_state(&mut self) {
        let Some(state) = &self.state else { return };
        if self.hearsay.as_ref().is_some_and(|(version, _)| *version <= state.members_version) {
            if let Some((_, members)) = self.hearsay.take() {
                self.forget_strangers(&members);
            }
            self.meet();
        }
        let (Some(newcomer), Some(state)) = (&self.newcomer, &self.state) else { return };
        if state.members.get(&newcomer.node).is_some_and(|member| member.folder == newcomer.member.folder) {
            // A member like any other from now on: its link stands.
            self.newcomer = None;
        } else if state.next_node != newcomer.node || !state.invited.contains_key(&newcomer.member.name) {
            self.part();
        }
    }

    /// A proposer has seen a newer member list than this node: it may tell of it.
    pub(crate) fn heard_members_version(&mut self, from: NodeId, version: Version) {
        let ours = self.state.as_ref().map_or(Version(0), |state| state.members_version);
        let heard = self.hearsay.as_ref().map_or(Version(0), |(version, _)| *version);
        if version > ours.max(heard) && self.me != Some(from) {
            self.send(from, Message::AskState { version: self.state_version() });
        }
    }

    /// An acceptor holds a state, chosen or not, whose member list is newer: those in it are connected to.
    pub(crate) fn heard_of_members(&mut self, newer: &GroupState) {
        let same = newer.cluster == self.config.cluster && newer.group == self.config.group;
        let ours = self.state.as_ref().map_or(Version(0), |state| state.members_version);
        let heard = self.hearsay.as_ref().map_or(Version(0), |(version, _)| *version);
        if same && newer.members_version > ours.max(heard) {
            if let Some((_, members)) = self.hearsay.replace((newer.members_version, newer.members.clone())) {
                self.forget_strangers(&members);
            }
            self.meet();
        }
    }

    /// Orders the connections besides those to members.
    fn meet(&mut self) {
        let mut newcomers: BTreeMap<NodeId, Member> = BTreeMap::new();
        if let Some((_, members)) = &self.hearsay {
            newcomers.extend(members.iter().map(|(node, member)| (*node, member.clone())));
        }
        if let Some(newcomer) = &self.newcomer {
            newcomers.insert(newcomer.node, newcomer.member.clone());
        }
        newcomers.retain(|node, member| self.member_role(*node).is_none() && !self.is_own(member));
        self.emit(Output::Meet { newcomers });
    }

    /// What was heard of nodes before they were known as members is remembered of them now (R5).
    pub(crate) fn remember_new_members(&mut self) {
        let Some(state) = &self.state else { return };
        for (id, link) in &mut self.links {
            if let Some(claims) = link.claims.take_if(|_| state.members.contains_key(id)) {
                self.vote.peers.insert(*id, claims);
                self.book.dirty = true;
            }
        }
    }

    /// Whether that folder is connected to under that number by hearsay.
    fn is_met(&self, node: NodeId, folder: FolderId) -> bool {
        let heard = self.hearsay.as_ref().and_then(|(_, members)| members.get(&node));
        heard.is_some_and(|member| member.folder == folder)
    }

    /// These were connected to by hearsay. Where a number has become another folder's, nothing of the former one is that
    /// one's: neither its link nor what it has said of itself (R4, R5).
    fn forget_strangers(&mut self, heard: &BTreeMap<NodeId, Member>) {
        for (node, former) in heard {
            let chosen = self.state.as_ref().and_then(|state| state.members.get(node));
            let invited = self.newcomer.as_ref().filter(|newcomer| newcomer.node == *node);
            let same = chosen.is_some_and(|member| member.folder == former.folder)
                || invited.is_some_and(|newcomer| newcomer.member.folder == former.folder)
                || self.is_met(*node, former.folder);
            if !same {
                self.links.remove(node);
            }
        }
    }

    fn part(&mut self) {
        let Some(newcomer) = self.newcomer.take() else { return };
        if !self.is_met(newcomer.node, newcomer.member.folder) {
            self.links.remove(&newcomer.node);
        }
        self.meet();
    }
}
