//! One client's connection: requests in, replies out in their order.
//!
//! ```text
//!   bytes --parser--> requests --plan--+--> reply at once -------------------+--> slots --in order--> bytes
//!                                      +--> the executing thread --outbox----+
//! ```
//!
//! Each request gets a slot; slots leave in order, however their replies come. What is open is bounded in number and in
//! bytes, what is written and not taken by the client in bytes: past any of them, nothing more is read, and the client's
//! own sending stalls. A WATCH or WAIT stops planning until it is answered, since what follows may depend on it.

use super::outbox::{Delivery, Outbox, Outcome};
use super::server::ClientLine;
use super::{AUTH_TIME_MAX, FrontShared};
use crate::executor::{ClientCall, Job, Task};
use bytes::{Buf, BytesMut};
use hotwarm_resp::{Protocol, Reply, RequestParser};
use hotwarm_store::command::{Call, ClientState, Plan, plan};
use hotwarm_types::Lsn;
use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

/// Requests that a connection may have open: fewer than a session remembers replies, so that each retry after a
/// failover finds its own.
const OPEN_MAX: usize = 512;

/// Bytes of open requests, as they were sent, past which no further one is looked at: one more may be under way, so
/// that each that a client may send fits.
const OPEN_SIZE_BYTES_MAX: usize = 64 << 20;

/// Bytes of written replies that may wait for the client to take them, but for the rest of one reply, before no further
/// one is written and nothing more is read from it.
const OUTPUT_SIZE_BYTES_MAX: usize = 1 << 20;

/// What is read at once.
const READ_SIZE_BYTES: usize = 16 << 10;

/// What a connection that is idle keeps for reading and writing.
const KEPT_SIZE_BYTES_MAX: usize = 64 << 10;

/// How long a WAIT may go on once the client's sending has ended: it may still read its reply, or be gone.
const WAIT_AFTER_END_MAX: Duration = Duration::from_secs(1);

/// How often a WAIT looks again.
const WAIT_INTERVAL: Duration = Duration::from_millis(10);

/// After how much silence a client is asked whether it is there.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);

/// How long an answer to that may take before it is asked again.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// After how many questions without an answer it counts as gone.
const KEEPALIVE_RETRIES: u32 = 3;

/// How long a client may neither answer its host's questions nor take any of the replies that are sent to it: until the
/// last question of an idle one is unanswered.
const SILENCE_TIME_MAX: Duration =
    Duration::from_secs(KEEPALIVE_TIME.as_secs() + KEEPALIVE_RETRIES as u64 * KEEPALIVE_INTERVAL.as_secs());

/// A request that is not answered yet, or whose answer has not left.
#[derive(Debug)]
struct Slot {
    /// The request as it was sent.
    size_bytes: usize,
    reply: Option<Reply>,
    /// The version in which the reply is written.
    protocol: Protocol,
    /// The client gave it a number of its own session: it can be told that the outcome is unknown.
    sequenced: bool,
}

/// Why no further request is planned.
#[derive(Debug)]
enum Stall {
    Watch { slot: u64, call: Call },
    Wait { slot: u64, replicas: u64, until: Option<Instant> },
}

/// See the module.
pub(super) struct Connection {
    stream: TcpStream,
    shared: Arc<FrontShared>,
    client: ClientState,
    parser: RequestParser,
    input: BytesMut,
    output: BytesMut,
    slots: VecDeque<Slot>,
    first_slot: u64,
    /// The sum of the slots' requests.
    open_size_bytes: usize,
    outbox: Arc<Outbox>,
    line: ClientLine,
    stall: Option<Stall>,
    /// The executing thread knows the connection.
    known: bool,
    /// Nothing more is read; the connection ends when the slots have left.
    ending: bool,
    /// The client's sending was seen to end during a WAIT: none goes on for longer.
    wait_until_max: Option<Instant>,
    /// What this client has been shown, for WAIT.
    seen: Lsn,
    /// By when it must have said who it is.
    auth_deadline: Option<Instant>,
}

impl Connection {
    /// Serves a client until either end closes.
    pub(super) async fn serve(stream: TcpStream, shared: Arc<FrontShared>) {
        // Where it cannot be set up, it is broken already.
        if tune(&stream).is_err() {
            return;
        }
        let mut connection = Self::new(stream, shared);
        // A client that goes away, or breaks the protocol, ends its own connection and nothing else.
        let _ = connection.run().await;
        let (id, shared) = (connection.client.id, &connection.shared);
        shared.server.remove_client(id);
        if connection.known {
            shared.jobs.push(Job::Closed { client: id });
        }
    }

    fn new(stream: TcpStream, shared: Arc<FrontShared>) -> Self {
        let id = shared.number();
        let address = stream.peer_addr().map_or_else(|_| "?:0".to_owned(), |address| address.to_string());
        let client = ClientState::new(id, address);
        let limits = client.limits(&*shared.server);
        let line = ClientLine::default();
        shared.server.add_client(id, Arc::clone(&line));
        let auth_deadline = (!client.is_admitted(&*shared.server)).then(|| Instant::now() + AUTH_TIME_MAX);
        let connection = Self {
            stream,
            shared,
            client,
            parser: RequestParser::new(limits),
            input: BytesMut::new(),
            output: BytesMut::new(),
            slots: VecDeque::new(),
            first_slot: 0,
            open_size_bytes: 0,
            outbox: Arc::default(),
            line,
            stall: None,
            known: false,
            ending: false,
            wait_until_max: None,
            seen: Lsn::ZERO,
            auth_deadline,
        };
        connection.publish_line();
        connection
    }

    async fn run(&mut self) -> io::Result<()> {
        let mut deliveries = Vec::new();
        loop {
            self.go_on()?;
            if self.ending && self.slots.is_empty() && self.output.is_empty() {
                return Ok(());
            }
            let interest = self.interest();
            let timer = self.next_look();
            tokio::select! {
                () = self.outbox.filled() => {
                    self.outbox.collect(&mut deliveries);
                    for delivery in deliveries.drain(..) {
                        self.take(delivery);
                    }
                }
                ready = ready(&self.stream, interest) => {
                    let ready = ready?;
                    if self.watches_end() {
                        self.look_at_end(ready)?;
                    } else if ready.is_readable() && !self.read()? {
                        // A client that has only ended its sending still gets its replies.
                        self.ending = true;
                    }
                }
                () = at(timer) => {
                    if self.auth_deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Does all that can be done without waiting. Replies that leave make room for requests that have been read already:
    /// the client may send nothing more by which they would be looked at.
    fn go_on(&mut self) -> io::Result<()> {
        loop {
            // Before anything is added: what the client has taken makes room.
            self.write()?;
            self.plan_requests();
            self.look_at_wait();
            if self.write_ready() == 0 {
                return Ok(());
            }
        }
    }

    /// Whether so much is open or waits for the client that nothing more may come in.
    fn is_full(&self) -> bool {
        self.slots.len() >= OPEN_MAX
            || self.open_size_bytes >= OPEN_SIZE_BYTES_MAX
            || self.output.len() >= OUTPUT_SIZE_BYTES_MAX
    }

    /// What is to be waited for on the socket, if anything.
    fn interest(&self) -> Option<Interest> {
        let read = !self.ending && self.stall.is_none() && !self.is_full();
        let read = if read {
            Some(Interest::READABLE)
        } else {
            // Urgent data is nothing to a client; what is asked for is the end that comes with it, whatever is unread.
            self.watches_end().then_some(Interest::PRIORITY)
        };
        let write = (!self.output.is_empty()).then_some(Interest::WRITABLE);
        match (read, write) {
            (Some(read), Some(write)) => Some(read | write),
            (read, write) => read.or(write),
        }
    }

    /// Whether nothing but the client's end is looked for: a WAIT may be without one of its own.
    fn watches_end(&self) -> bool {
        matches!(self.stall, Some(Stall::Wait { .. })) && self.wait_until_max.is_none()
    }

    /// Ends the connection if it is broken, and the WAIT soon if the client's sending has ended.
    fn look_at_end(&mut self, ready: Ready) -> io::Result<()> {
        if ready.is_read_closed() {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            self.wait_until_max = Some(Instant::now() + WAIT_AFTER_END_MAX);
        }
        Ok(())
    }

    fn next_look(&self) -> Option<Instant> {
        let wait = match &self.stall {
            Some(Stall::Wait { until, .. }) => {
                let next = Instant::now() + WAIT_INTERVAL;
                [*until, self.wait_until_max, Some(next)].into_iter().flatten().min()
            }
            Some(Stall::Watch { .. }) | None => None,
        };
        [wait, self.auth_deadline].into_iter().flatten().min()
    }

    /// Reads what is there; false at the end.
    fn read(&mut self) -> io::Result<bool> {
        self.input.reserve(READ_SIZE_BYTES);
        match self.stream.try_read_buf(&mut self.input) {
            Ok(0) => Ok(false),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Writes as much as the client takes.
    fn write(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.try_write(&self.output) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.output.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if self.output.capacity() > KEPT_SIZE_BYTES_MAX {
            self.output = BytesMut::new();
        }
        Ok(())
    }

    /// Plans the requests that have arrived, as many as may be open, and hands those that need the data over at once.
    fn plan_requests(&mut self) {
        let mut calls = Vec::new();
        while self.stall.is_none() && !self.ending && !self.is_full() {
            let arrived = self.input.len();
            match self.parser.next(&mut self.input) {
                Ok(Some(args)) => {
                    let planned = plan(&mut self.client, &*self.shared.server, args);
                    self.carry_out(planned, &mut calls);
                    let size_bytes = arrived - self.input.len();
                    if let Some(slot) = self.slots.back_mut() {
                        slot.size_bytes = size_bytes;
                        self.open_size_bytes += size_bytes;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.answer(Reply::from(error));
                    self.ending = true;
                }
            }
        }
        if self.input.is_empty() && self.input.capacity() > KEPT_SIZE_BYTES_MAX {
            self.input = BytesMut::new();
        }
        if !calls.is_empty() {
            if !self.known {
                self.known = true;
                let (client, outbox) = (self.client.id, Arc::clone(&self.outbox));
                self.shared.jobs.push(Job::Opened { client, outbox, front: Arc::clone(&self.shared.live) });
            }
            self.shared.jobs.push(Job::Calls { client: self.client.id, calls });
        }
    }

    fn carry_out(&mut self, planned: Plan, calls: &mut Vec<ClientCall>) {
        match planned {
            Plan::Reply(reply) => {
                self.answer(reply);
                self.parser.set_limits(self.client.limits(&*self.shared.server));
                if self.client.is_admitted(&*self.shared.server) {
                    self.auth_deadline = None;
                }
                self.publish_line();
            }
            Plan::Close(reply) => {
                self.answer(reply);
                self.ending = true;
            }
            Plan::Read(call) => {
                let slot = self.open(false);
                let anywhere = self.client.reads_warm();
                calls.push(ClientCall { slot, task: Task::Read { call, anywhere } });
            }
            Plan::Write(call) => {
                let slot = self.open(call.identity().is_some());
                calls.push(ClientCall { slot, task: Task::Write(call) });
            }
            Plan::Watch(call) => {
                let slot = self.open(false);
                calls.push(ClientCall { slot, task: Task::Read { call: call.clone(), anywhere: false } });
                self.stall = Some(Stall::Watch { slot, call });
            }
            Plan::Session { session, resume } => {
                let slot = self.open(false);
                calls.push(ClientCall { slot, task: Task::Session { session, resume } });
            }
            Plan::Wait { replicas, timeout } => {
                let slot = self.open(false);
                let until = timeout.map(|timeout| Instant::now() + timeout);
                self.stall = Some(Stall::Wait { slot, replicas, until });
            }
        }
    }

    fn open(&mut self, sequenced: bool) -> u64 {
        self.slots.push_back(Slot { size_bytes: 0, reply: None, protocol: self.client.protocol(), sequenced });
        self.first_slot + self.slots.len() as u64 - 1
    }

    /// Answers the request planned last.
    fn answer(&mut self, reply: Reply) {
        if reply.is_error() {
            self.shared.metrics.command_errors.inc();
        }
        let protocol = self.client.protocol();
        self.slots.push_back(Slot { size_bytes: 0, reply: Some(reply), protocol, sequenced: false });
    }

    /// Takes the end of a request from the executing thread.
    fn take(&mut self, delivery: Delivery) {
        let Delivery { slot, outcome, seen } = delivery;
        self.seen = self.seen.max(seen);
        let Some(entry) = slot.checked_sub(self.first_slot).and_then(|index| self.slots.get_mut(index as usize)) else {
            return;
        };
        let reply = match outcome {
            Outcome::Reply(reply) => reply,
            Outcome::Unknown if entry.sequenced => {
                Reply::error("OUTCOMEUNKNOWN it cannot be found out whether the command was executed")
            }
            Outcome::Unknown => {
                // An unmodified client would take an error for "not executed". What is before it still leaves.
                let dropped = self.slots.drain((slot - self.first_slot) as usize..);
                self.open_size_bytes -= dropped.map(|slot| slot.size_bytes).sum::<usize>();
                self.ending = true;
                self.stall = None;
                return;
            }
        };
        if reply.is_error() {
            self.shared.metrics.command_errors.inc();
        }
        let watched = match &self.stall {
            Some(Stall::Watch { slot: watching, call }) if *watching == slot => Some(self.client.watched(call, &reply)),
            Some(Stall::Watch { .. } | Stall::Wait { .. }) | None => None,
        };
        if watched.is_some() {
            self.stall = None;
        }
        entry.reply = Some(watched.unwrap_or(reply));
    }

    /// Answers a WAIT whose earlier requests are all answered, once it has its copies or its time is over.
    fn look_at_wait(&mut self) {
        let Some(Stall::Wait { slot, replicas, until }) = &self.stall else { return };
        let earlier_open = self.slots.iter().take((slot - self.first_slot) as usize).any(|slot| slot.reply.is_none());
        let until = [*until, self.wait_until_max].into_iter().flatten().min();
        let over = until.is_some_and(|until| until <= Instant::now());
        let copies = if earlier_open { 0 } else { self.shared.server.copies(self.seen) };
        if over || (!earlier_open && copies >= *replicas) {
            let index = (slot - self.first_slot) as usize;
            if let Some(entry) = self.slots.get_mut(index) {
                entry.reply = Some(Reply::Integer(copies.cast_signed()));
            }
            self.stall = None;
            self.plan_requests();
        }
    }

    /// Moves the replies whose turn it is to the output while there is room; gives their number.
    fn write_ready(&mut self) -> u64 {
        let before = self.first_slot;
        while self.output.len() < OUTPUT_SIZE_BYTES_MAX
            && let Some(slot) = self.slots.pop_front_if(|slot| slot.reply.is_some())
        {
            self.first_slot += 1;
            self.open_size_bytes -= slot.size_bytes;
            if let Some(reply) = slot.reply {
                reply.write(slot.protocol, &mut self.output);
            }
        }
        self.first_slot - before
    }

    fn publish_line(&self) {
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = self.client.line();
    }
}

/// Sets what each connection of a client needs.
fn tune(stream: &TcpStream) -> io::Result<()> {
    // Replies are written whole: waiting for more would only delay them.
    stream.set_nodelay(true)?;
    // A client whose host is gone must not keep its place for ever.
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_RETRIES))?;
    socket.set_tcp_user_timeout(Some(SILENCE_TIME_MAX))
}

/// Waits for the socket; for ever where nothing is wanted of it.
async fn ready(stream: &TcpStream, interest: Option<Interest>) -> io::Result<Ready> {
    match interest {
        Some(interest) => stream.ready(interest).await,
        None => pending().await,
    }
}

/// Waits for a moment; for ever if there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
