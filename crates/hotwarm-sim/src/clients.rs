//! The clients in the world: they ask, wait, ask elsewhere, give up, and are told.

use crate::clock::MS;
use crate::outcome::Kind;
use crate::workload::{self, Reply, Request, What};
use crate::world::{Event, World};

impl World {
    pub(crate) fn client_wakes(&mut self, index: usize, timer: u64) {
        if self.clients[index].timer != timer {
            return;
        }
        match self.clients[index].open {
            None if self.settle.clients_may_ask() => {
                let pinned = self.pin(index);
                let what = if pinned || self.clients[index].is_open {
                    let what = self.plan.mix.draw(&mut self.rng, pinned, &mut self.unique);
                    self.oracle.invoke(self.now, what);
                    what
                } else {
                    What::Open
                };
                let client = &mut self.clients[index];
                client.seq += 1;
                client.open = Some(workload::Open { what, invoked_at: self.now });
                self.send_request(index);
            }
            None => {}
            Some(open) if self.now - open.invoked_at > workload::PATIENCE => {
                if open.what != What::Open {
                    self.oracle.abandon();
                }
                self.clients[index].open = None;
                self.client_rests(index);
            }
            Some(_) => {
                self.clients[index].target = self.rng.index(self.machines.len());
                self.send_request(index);
            }
        }
    }

    /// A client that only reads goes back to its machine, and now and then chooses another: mostly the hot.
    fn pin(&mut self, index: usize) -> bool {
        if self.clients[index].pinned.is_none() {
            return false;
        }
        if self.rng.percent(2) {
            let hot = self.ledger.choices.latest().and_then(|state| self.machine_of(state.reign.node));
            let any = self.rng.index(self.machines.len());
            self.clients[index].pinned = hot.or(Some(any));
        }
        if let Some(machine) = self.clients[index].pinned {
            self.clients[index].target = machine;
        }
        true
    }

    /// Sends a client's open request to the machine it asks, and sets its timer.
    pub(crate) fn send_request(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.timer += 1;
        let (timer, machine, seq, session) = (client.timer, client.target, client.seq, client.session);
        let Some(open) = client.open else { return };
        self.machines[machine].traffic.requests += 1;
        let wait = workload::timeout(&mut self.rng);
        self.after(wait, Event::Client { client: index, timer });
        if !self.machines[machine].clients_cut {
            let delay = self.rng.latency(self.plan.delay);
            let request = Request { client: index, session, seq, what: open.what };
            self.after(delay, Event::Request { machine, request });
        }
    }

    /// A client thinks before it asks again.
    fn client_rests(&mut self, index: usize) {
        self.clients[index].timer += 1;
        let timer = self.clients[index].timer;
        let think = self.rng.latency(self.plan.think);
        self.after(think, Event::Client { client: index, timer });
    }

    /// Sends a reply, unless clients are cut off from the machine.
    pub fn send_reply(&mut self, machine: usize, request: Request, reply: Reply) {
        if !self.machines[machine].clients_cut {
            let delay = self.rng.latency(self.plan.delay);
            self.after(delay, Event::Reply { request, reply });
        }
    }

    pub(crate) fn reply_arrives(&mut self, request: Request, reply: Reply) {
        let Request { client: index, session, seq, .. } = request;
        let client = &mut self.clients[index];
        let Some(open) = client.open else { return };
        if (client.session, client.seq) != (session, seq) {
            return;
        }
        match reply {
            Reply::Done(_) if open.what == What::Open => {
                (client.is_open, client.open) = (true, None);
                self.client_rests(index);
            }
            Reply::Done(value) => {
                client.open = None;
                if matches!(open.what, What::Write(_)) {
                    client.acknowledged += 1;
                    client.acknowledged_at = self.now;
                }
                self.trace.line(self.now, format_args!("client {index} got {value} for #{seq} {:?}", open.what));
                if let Err(complaint) = self.oracle.respond(self.now, open.invoked_at, open.what, value) {
                    self.fail(Kind::Safety, complaint.rule, complaint.what);
                }
                self.client_rests(index);
            }
            Reply::Moved(to) => {
                let target = to.unwrap_or_else(|| self.rng.index(self.machines.len()));
                // Not at once: two nodes that each believe the other reigns would keep the client spinning.
                let wait = self.rng.between(1, 30) * MS;
                let client = &mut self.clients[index];
                client.target = target;
                client.timer += 1;
                let timer = client.timer;
                self.after(wait, Event::Resend { client: index, timer });
            }
            Reply::Refused => {
                client.open = None;
                self.trace.line(self.now, format_args!("client {index} is refused #{seq} {:?}", open.what));
                self.oracle.refuse(open.what);
                self.client_rests(index);
            }
            Reply::Unknown => {
                client.open = None;
                client.forget_session();
                self.oracle.abandon();
                self.client_rests(index);
            }
        }
    }
}
