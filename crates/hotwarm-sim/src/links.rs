//! How connections come and go, and how messages move over them.

use crate::clock::{MS, SECOND};
use crate::copies::GROUP;
use crate::machine::{Stimulus, Told};
use crate::outcome::Kind;
use crate::world::{Event, World};
use hotwarm_core::register::Member;
use hotwarm_core::{Input, Message};
use hotwarm_types::NodeId;
use hotwarm_wire::{Frame, FrameHeader};
use std::collections::BTreeMap;

impl World {
    /// Tries to connect the two machines of a link, and comes back later either way.
    pub(crate) fn try_connect(&mut self, link: usize) {
        if self.network.links[link].connect_at != self.now {
            return;
        }
        let wait = if self.network.links[link].connection.is_some() { SECOND } else { self.rng.between(10, 60) * MS };
        self.connect_after(link, wait);
        let (low, high) = (self.network.links[link].low, self.network.links[link].high);
        let ready = self.network.links[link].connection.is_none()
            && self.network.links[link].is_open()
            && self.machines[low].is_awake()
            && self.machines[high].is_awake()
            && self.wants(low, high)
            && self.wants(high, low);
        if !ready || self.rng.percent(20) {
            return;
        }
        let boots =
            [low, high].map(|machine| self.machines[machine].process.as_ref().map_or(0, |process| process.boot));
        let up_at = [0, 1].map(|path| {
            let path = self.network.links[link].paths[path];
            self.now + 2 * path.draw(&mut self.rng)
        });
        let connection = self.network.connect(link, boots, up_at);
        self.schedule(up_at[0], Event::LinkUp { machine: low, peer: high, connection });
        self.schedule(up_at[1], Event::LinkUp { machine: high, peer: low, connection });
    }

    /// The next attempt of a link.
    pub(crate) fn connect_after(&mut self, link: usize, wait: u64) {
        let at = self.now + wait;
        self.network.links[link].connect_at = at;
        self.schedule(at, Event::Connect { link });
    }

    /// Whether a machine's process connects to the other: a member by what it knows, or by its folder while it knows
    /// nothing yet, or the newcomer that it is to meet. An empty folder knows the members from its ticket.
    pub(crate) fn wants(&self, machine: usize, peer: usize) -> bool {
        let Some(process) = &self.machines[machine].process else { return false };
        let disk = &self.machines[machine].disk;
        let folder = self.machines[peer].disk.folder();
        let remembered = disk.vote.accepted.as_ref().map(|(_, state)| state).or(disk.birth.as_ref());
        let known = process.known.as_ref().or(remembered).or_else(|| self.ledger.choices.latest());
        let met = process.met.values().any(|member| member.folder == folder);
        met || known.is_some_and(|state| state.members.values().any(|member| member.folder == folder))
    }

    /// A process is to be connected to these who may become members, and no longer to those before that are not among
    /// them. A number that a member has already can only be meant by a node that has missed that.
    pub(crate) fn meet(&mut self, index: usize, newcomers: BTreeMap<NodeId, Member>) {
        let next = self.ledger.choices.latest().map_or(NodeId(0), |state| state.next_node);
        for (id, member) in newcomers.iter().filter(|(id, _)| **id >= next) {
            if let Some(machine) = self.machine_named(&member.name) {
                self.place(*id, machine, member.folder);
            }
        }
        let kept: Vec<_> = newcomers.values().map(|member| member.folder).collect();
        let before = self.process(index, |process| core::mem::replace(&mut process.met, newcomers)).unwrap_or_default();
        for member in before.values().filter(|member| !kept.contains(&member.folder)) {
            if let Some(machine) = self.machine_named(&member.name) {
                let link = self.network.between(index, machine);
                self.break_connection(link, [Some(MS), Some(MS)]);
            }
        }
    }

    pub(crate) fn link_up(&mut self, machine: usize, peer: usize, connection: u64) {
        let index = self.network.between(machine, peer);
        let link = &self.network.links[index];
        let Some(standing) = &link.connection else { return };
        if standing.id != connection {
            return;
        }
        let boot = standing.boots[usize::from(machine != link.low)];
        let (Some(id), Some(process)) = (self.id_of(peer), &self.machines[peer].process) else { return };
        let incarnation = process.incarnation;
        self.stimulate(machine, boot, Stimulus::LinkUp { peer, id, incarnation, connection });
    }

    /// A process learns of a connection. If it has not noticed that the one before broke, it learns that too, unless
    /// the peer has been started anew: then the new incarnation alone must do.
    pub(crate) fn take_link_up(&mut self, machine: usize, peer: usize, told: Told) {
        let Some(process) = &mut self.machines[machine].process else { return };
        let before = process.told.insert(peer, told);
        if let Some(before) = before {
            let anew = before.id == told.id && before.incarnation != told.incarnation;
            if !anew || self.rng.percent(50) {
                self.feed(machine, Input::LinkDown { peer: before.id });
            }
        }
        self.feed(machine, Input::LinkUp { peer: told.id, incarnation: told.incarnation });
    }

    pub(crate) fn take_link_down(&mut self, machine: usize, peer: usize, connection: u64) {
        let Some(process) = &mut self.machines[machine].process else { return };
        let Some(told) = process.told.get(&peer).copied().filter(|told| told.connection == connection) else { return };
        process.told.remove(&peer);
        self.feed(machine, Input::LinkDown { peer: told.id });
    }

    /// Breaks the connection of a link. Each end learns of it after its own wait; `None`: not at all.
    pub(crate) fn break_connection(&mut self, link: usize, notice: [Option<u64>; 2]) {
        let Some(connection) = self.network.links[link].connection.take() else { return };
        let wait = self.rng.between(10, 60) * MS;
        self.connect_after(link, wait);
        let ends = [self.network.links[link].low, self.network.links[link].high];
        for end in [0, 1] {
            if let Some(wait) = notice[end] {
                let (machine, peer) = (ends[end], ends[1 - end]);
                // Never before the end was told that it stands.
                let wait = wait.max(connection.queues[1 - end][0].tail.saturating_sub(self.now)) + 1;
                let boot = connection.boots[end];
                self.after(wait, Event::LinkDown { machine, boot, peer, connection: connection.id });
            }
        }
    }

    /// Sends a message of a process to a member, if it has a connection to it.
    pub(crate) fn send(&mut self, machine: usize, to: NodeId, message: Message) {
        let Some(peer) = self.machine_of(to).filter(|peer| *peer != machine) else { return };
        let told = self.machines[machine].process.as_ref().and_then(|process| process.told.get(&peer));
        let Some(told) = told.map(|told| told.connection) else { return };
        let index = self.network.between(machine, peer);
        let link = &mut self.network.links[index];
        let direction = link.direction_from(machine);
        link.paths[direction].frames += 1;
        let path = link.paths[direction];
        let Some(connection) = link.connection.as_mut().filter(|connection| connection.id == told) else { return };
        let kind = usize::from(message.is_bulk());
        let at = (self.now + path.draw(&mut self.rng)).max(connection.queues[direction][kind].tail + 1);
        let queue = &mut connection.queues[direction][kind];
        queue.tail = at;
        let mut frame = Vec::new();
        Frame::Core(message).encode(GROUP, &mut frame);
        queue.frames.push_back(frame);
        self.schedule(at, Event::Arrive { link: index, connection: told, direction, kind });
    }

    pub(crate) fn arrive(&mut self, link: usize, connection: u64, direction: usize, kind: usize) {
        let (from, to) = self.network.links[link].ends(direction);
        let cut = self.network.links[link].paths[direction].cut;
        let standing = self.network.links[link].connection.as_mut().filter(|standing| standing.id == connection);
        let Some(standing) = standing else { return };
        let queue = &mut standing.queues[direction][kind];
        if cut {
            queue.owed += 1;
            return;
        }
        let Some(frame) = queue.frames.pop_front() else { return };
        let boot = standing.boots[1 - direction];
        self.stimulate(to, boot, Stimulus::Message { peer: from, connection, frame });
    }

    /// A process takes a message from a connection that it has not yet seen break.
    pub(crate) fn take_message(&mut self, machine: usize, peer: usize, connection: u64, frame: &[u8]) {
        let Some(process) = &self.machines[machine].process else { return };
        let Some(told) = process.told.get(&peer).copied().filter(|told| told.connection == connection) else { return };
        let message = match read_frame(frame) {
            Ok(message) => message,
            Err(error) => {
                let what = format!("{} cannot read a message: {error}", self.machines[machine].name);
                return self.fail(Kind::Safety, "INV-12", what);
            }
        };
        self.feed(machine, Input::Received { from: told.id, incarnation: told.incarnation, message });
    }

    /// Cuts one direction between two machines. The connection stands until somebody gives it up.
    pub(crate) fn cut(&mut self, from: usize, to: usize, gives_up: bool) {
        let index = self.network.between(from, to);
        let link = &mut self.network.links[index];
        let direction = link.direction_from(from);
        link.paths[direction].cut = true;
        if let Some(connection) = link.connection.as_ref().map(|connection| connection.id)
            && gives_up
        {
            let wait = self.rng.between(100 * MS, 4 * SECOND);
            self.after(wait, Event::GiveUp { link: index, connection });
        }
    }

    /// A connection over a link that is still cut is given up by both ends, not at the same time.
    pub(crate) fn give_up(&mut self, link: usize, connection: u64) {
        let open = self.network.links[link].is_open();
        if open || self.network.links[link].connection.as_ref().is_none_or(|standing| standing.id != connection) {
            return;
        }
        let notice = [0, 1].map(|_| Some(self.rng.below(SECOND)));
        self.break_connection(link, notice);
    }

    /// Ends a cut. What it held back arrives now, in order.
    pub(crate) fn uncut(&mut self, link: usize, direction: usize) {
        let now = self.now;
        let path = &mut self.network.links[link].paths[direction];
        if !path.cut {
            return;
        }
        path.cut = false;
        let mut arrivals = Vec::new();
        if let Some(connection) = &mut self.network.links[link].connection {
            for kind in 0..crate::network::KINDS {
                let queue = &mut connection.queues[direction][kind];
                let owed = core::mem::take(&mut queue.owed);
                arrivals.extend((0..owed).map(|index| (connection.id, kind, now + MS + index * 1_000)));
            }
        }
        for (connection, kind, at) in arrivals {
            self.schedule(at, Event::Arrive { link, connection, direction, kind });
        }
    }
}

/// A message as the receiver reads it.
fn read_frame(frame: &[u8]) -> Result<Message, String> {
    let (header, payload) = frame.split_first_chunk().ok_or("no header")?;
    let header = FrameHeader::decode(header, Frame::PAYLOAD_SIZE_BYTES_MAX).map_err(|error| error.to_string())?;
    match Frame::decode(&header, payload).map_err(|error| error.to_string())? {
        Frame::Core(message) => Ok(message),
        other => Err(format!("{:?} is no message", other.kind())),
    }
}
