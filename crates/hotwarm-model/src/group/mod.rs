//! Two data nodes and a witness, checked in every order: the product's nodes, on disks that take their time, connections that
//! hold, break and come back, and processes that crash, stop and start.
//!
//! What runs is `hotwarm_core::Node`; the shell around it is the least that there can be. It begins with a group that has
//! been bootstrapped and serves. Time moves in steps of half a second, at the default timers: a beacon is due in each, and
//! two in a row outlast `shrink_after`, the lease and the grace. Time passes only when everything that is due has happened:
//! every timer, every order to a disk, every message on a path that is not cut, to a process that is not stopped. So slowness
//! is a fault that is counted, like the others, and within a step of time every order is looked at. On one kind of connection
//! messages keep their order, as they do on TCP; control and bulk overtake each other.
//!
//! Two things keep the space small. A process starts again, and a path heals, only when nothing else is due: crashes, cuts,
//! breaks, pauses and the ends of pauses, and writes, may come at any moment. And once no crash may come any more, the witness's disk is done at
//! once: an answer that waits for it is an answer that is late.
//!
//! Not part of it: full copies and trimmed logs (the log is short), changes of members (`register` has them), disks that
//! fail, goodbyes.

mod judge;
mod scene;
mod shell;
mod world;

pub use scene::{SCENES, Scene};

use scene::Budget;

use crate::explore::{Model, Violation};
use crate::mistakes::Mistake;
use hotwarm_core::Input;
use hotwarm_types::Payload;
use shell::Shell;
use world::{Attested, End, Lane, Link, Memory, NODES, WITNESS, World, member};

/// Steps that a group needs at most from its first start until it serves with both data nodes in sync.
const BEGINNING_STEPS_MAX: u32 = 2_000;

/// Something that may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next message of a lane arrives.
    Deliver(Lane),
    /// The first order to a machine's log is done.
    SyncLog(u8),
    /// The first order to its vote record is done.
    SyncVote(u8),
    /// Blocks are read from its log.
    ReadLog(u8),
    /// A node's timer fires.
    Timer(u8),
    /// A machine is told of its connection to another.
    Notice(u8, u8),
    /// An attestation arrives.
    Attest(Attested),
    /// A connection is made.
    Connect(u8),
    /// Half a second passes.
    Tick,
    /// A client's write comes to a machine.
    Write(u8),
    /// A process crashes.
    Crash {
        /// Whose.
        machine: u8,
        /// Its guardian attests it.
        attested: bool,
        /// What it has ordered gets to the disk.
        written: bool,
    },
    /// A process starts.
    Restart(u8),
    /// What the lower, and what the higher, machine of a link sends is held from now on.
    Cut(u8, [bool; 2]),
    /// A path is whole again.
    Heal(u8),
    /// A connection breaks.
    Break(u8),
    /// A process is stopped.
    Pause(u8),
    /// It goes on.
    Resume(u8),
}

/// See the module.
#[derive(Debug)]
pub struct Group {
    scene: &'static Scene,
    shell: Shell,
}

impl Group {
    /// The model of a scene, with a mistake planted or none.
    #[must_use]
    pub fn new(scene: &'static Scene, mistake: Option<Mistake>) -> Self {
        Self { scene, shell: Shell::new(scene.rates, mistake) }
    }

    /// What must happen before time may pass.
    fn due(&self, world: &World, steps: &mut Vec<Step>) {
        let mut last = None;
        for (lane, _) in &world.air {
            if last == Some(*lane) {
                continue;
            }
            last = Some(*lane);
            let (from, to) = (usize::from(lane.from), usize::from(lane.to));
            if world.is_open(from, to) && world.is_awake(to) && world.known_end(to, from) == End::Up {
                steps.push(Step::Deliver(*lane));
            }
        }
        for (index, machine) in world.machines.iter().enumerate() {
            let Some(process) = machine.process.as_ref().filter(|_| !machine.paused) else { continue };
            let number = index as u8;
            steps.extend((!process.orders.is_empty()).then_some(Step::SyncLog(number)));
            steps.extend((!process.votes.is_empty()).then_some(Step::SyncVote(number)));
            steps.extend((!process.reads.is_empty()).then_some(Step::ReadLog(number)));
            let now = self.shell.now(world, index);
            let due = self.shell.parts.nodes[process.node].deadline().is_some_and(|deadline| deadline <= now);
            steps.extend(due.then_some(Step::Timer(number)));
            for peer in (0..NODES).filter(|peer| *peer != index) {
                let told = match world.known_end(index, peer) {
                    End::Coming => true,
                    // The end of a connection comes over the path like everything else.
                    End::Breaking => world.is_open(peer, index),
                    End::Up | End::Down => false,
                };
                steps.extend(told.then_some(Step::Notice(number, peer as u8)));
            }
        }
        for attested in &world.attested {
            let (dead, to) = (usize::from(attested.dead), usize::from(attested.to));
            if world.is_open(dead, to) && world.is_awake(to) {
                steps.push(Step::Attest(*attested));
            }
        }
        for link in 0..3 {
            let [low, high] = shell::both(link);
            let whole = world.links[link].ends == [End::Down; 2] && world.links[link].cut == [false; 2];
            if whole && world.is_awake(low) && world.is_awake(high) {
                steps.push(Step::Connect(link as u8));
            }
        }
    }

    /// What may happen when nothing is due: time passes, and faults end.
    fn may_at_rest(&self, world: &World, steps: &mut Vec<Step>) {
        steps.extend((world.left.ticks > 0).then_some(Step::Tick));
        for (index, machine) in world.machines.iter().enumerate() {
            let down = machine.process.is_none() && world.left.restarts > 0;
            steps.extend(down.then_some(Step::Restart(index as u8)));
        }
        for (index, link) in world.links.iter().enumerate() {
            steps.extend((link.cut != [false; 2]).then_some(Step::Heal(index as u8)));
        }
    }

    /// What may happen at any moment: writes, and faults.
    fn may(&self, world: &World, steps: &mut Vec<Step>) {
        let left = world.left;
        for (index, machine) in world.machines.iter().enumerate() {
            let number = index as u8;
            let Some(process) = &machine.process else { continue };
            if machine.paused {
                steps.push(Step::Resume(number));
                continue;
            }
            let serves = left.writes > 0 && process.serves.is_some();
            steps.extend(serves.then_some(Step::Write(number)));
            steps.extend((left.pauses > 0).then_some(Step::Pause(number)));
            if left.crashes > 0 {
                let pending = !process.orders.is_empty() || !process.votes.is_empty();
                for (attested, written) in [(true, false), (false, false), (true, true), (false, true)] {
                    if pending || !written {
                        steps.push(Step::Crash { machine: number, attested, written });
                    }
                }
            }
        }
        for (index, link) in world.links.iter().enumerate() {
            let number = index as u8;
            if link.cut == [false; 2] && left.cuts > 0 {
                steps.extend([[true, true], [true, false], [false, true]].map(|cut| Step::Cut(number, cut)));
            }
            if left.breaks > 0 && link.ends == [End::Up; 2] {
                steps.push(Step::Break(number));
            }
        }
    }

    fn after(&mut self, world: &mut World, step: Step) -> Result<(), Violation> {
        match step {
            Step::Deliver(lane) => self.deliver(world, lane),
            Step::SyncLog(machine) => self.shell.sync_log(world, usize::from(machine), true).map(drop),
            Step::SyncVote(machine) => self.shell.sync_vote(world, usize::from(machine), true).map(drop),
            Step::ReadLog(machine) => self.shell.read_log(world, usize::from(machine)),
            Step::Timer(machine) => self.shell.feed(world, usize::from(machine), Input::Elapsed),
            Step::Notice(machine, peer) => self.notice(world, usize::from(machine), usize::from(peer)),
            Step::Attest(attested) => {
                world.attested.retain(|other| *other != attested);
                let fact = shell::death(usize::from(attested.dead), attested.start);
                self.shell.feed(world, usize::from(attested.to), fact)
            }
            Step::Connect(link) => {
                world.links[usize::from(link)].ends = [End::Coming; 2];
                Ok(())
            }
            Step::Tick => {
                world.time += 1;
                world.left.ticks -= 1;
                Ok(())
            }
            Step::Write(machine) => self.write(world, usize::from(machine)),
            Step::Crash { machine, attested, written } => {
                world.left.crashes -= 1;
                let index = usize::from(machine);
                let start = world.machines[index].starts;
                self.shell.crash(world, index, written)?;
                if attested {
                    let to = (0..NODES as u8).filter(|to| *to != machine);
                    world.attested.extend(to.map(|to| Attested { to, dead: machine, start }));
                    world.attested.sort_unstable();
                }
                Ok(())
            }
            Step::Restart(machine) => {
                world.left.restarts -= 1;
                self.shell.start(world, usize::from(machine));
                self.shell.feed(world, usize::from(machine), Input::Elapsed)
            }
            Step::Cut(link, cut) => {
                world.left.cuts -= 1;
                world.links[usize::from(link)].cut = cut;
                Ok(())
            }
            Step::Heal(link) => {
                world.links[usize::from(link)].cut = [false; 2];
                Ok(())
            }
            Step::Break(link) => {
                world.left.breaks -= 1;
                let [low, high] = shell::both(usize::from(link));
                world.lose_connection(low, high);
                Ok(())
            }
            Step::Pause(machine) => {
                world.left.pauses -= 1;
                world.machines[usize::from(machine)].paused = true;
                if self.shell.mistake == Some(Mistake::DeathMisattested) {
                    let start = world.machines[usize::from(machine)].starts;
                    let to = (0..NODES as u8).filter(|to| *to != machine);
                    world.attested.extend(to.map(|to| Attested { to, dead: machine, start }));
                }
                Ok(())
            }
            Step::Resume(machine) => {
                world.machines[usize::from(machine)].paused = false;
                Ok(())
            }
        }
    }

    fn deliver(&mut self, world: &mut World, lane: Lane) -> Result<(), Violation> {
        let place = world.air.partition_point(|(other, _)| *other < lane);
        let (_, message) = world.air.remove(place);
        let message = (*self.shell.parts.messages[message]).clone();
        let from = usize::from(lane.from);
        let start = world.machines[from].process.as_ref().map_or(0, |process| process.start);
        self.shell.feed(world, usize::from(lane.to), shell::received(from, start, message))
    }

    fn notice(&mut self, world: &mut World, machine: usize, peer: usize) -> Result<(), Violation> {
        let end = world.known_end(machine, peer);
        let start = world.machines[peer].starts;
        *world.end(machine, peer) = if end == End::Coming { End::Up } else { End::Down };
        self.shell.feed(world, machine, shell::link_fact(peer, end, start))
    }

    fn write(&mut self, world: &mut World, machine: usize) -> Result<(), Violation> {
        world.left.writes -= 1;
        let Some(process) = &world.machines[machine].process else { return Ok(()) };
        let Some(tenure) = process.serves else { return Ok(()) };
        let first = world.end_of(&self.shell.parts, &process.log).next();
        // No two writes are alike.
        let payload = Payload::new(&[world.left.writes]);
        self.shell.feed(world, machine, Input::Proposed { tenure, first, count: 1, stamp_ms: 1, payload })
    }

    /// A group that has just been bootstrapped by the shortest way, serves, and has both data nodes in sync.
    fn beginning(&mut self) -> World {
        let machines = (0..NODES).map(|_| self.shell.fresh()).collect();
        let down = Link { ends: [End::Down; 2], cut: [false; 2] };
        let mut world = World {
            machines,
            links: [down; 3],
            air: Vec::new(),
            attested: Vec::new(),
            time: 0,
            left: Budget { ticks: u8::MAX, ..Budget::default() },
            memory: Memory::default(),
        };
        for machine in 0..NODES {
            self.shell.start(&mut world, machine);
        }
        let mut steps = Vec::new();
        for _ in 0..BEGINNING_STEPS_MAX {
            steps.clear();
            self.due(&world, &mut steps);
            let step = match steps.first() {
                Some(step) => *step,
                None if self.is_settled(&world) => break,
                None => Step::Tick,
            };
            self.after(&mut world, step).expect("a group begins without a fault");
        }
        assert!(self.is_settled(&world), "a group that nothing happens to serves with both nodes in sync");
        world.left = self.scene.budget;
        world
    }

    fn is_settled(&self, world: &World) -> bool {
        let state = judge::newest(world, &self.shell.parts);
        let in_sync = state.is_some_and(|state| (0..WITNESS).all(|index| state.in_sync.contains(&member(index))));
        let serves = world.machines[0].process.as_ref().is_some_and(|process| {
            process.serves.is_some() && self.shell.parts.nodes[process.node].lease_holds(self.shell.now(world, 0))
        });
        in_sync && serves
    }
}

impl Model for Group {
    type State = World;
    type Step = Step;

    fn start(&mut self) -> Vec<World> {
        // A planted mistake is not made before the scene begins.
        let mistake = self.shell.mistake.take();
        let world = self.beginning();
        self.shell.mistake = mistake;
        vec![world]
    }

    fn steps(&mut self, world: &World, steps: &mut Vec<Step>) {
        self.due(world, steps);
        if steps.is_empty() {
            self.may_at_rest(world, steps);
        }
        let certain = steps.len();
        self.may(world, steps);
        let mut index = 0;
        steps.retain(|step| {
            index += 1;
            index <= certain || (self.scene.faults)(*step)
        });
    }

    fn take(&mut self, world: &World, step: Step) -> Result<World, Violation> {
        let mut after = world.clone();
        self.after(&mut after, step)?;
        if after.left.crashes == 0 {
            while self.shell.sync_vote(&mut after, WITNESS, true)? {}
        }
        Ok(after)
    }

    fn tell(&mut self, world: &World, step: Step) -> String {
        let name = |index: u8| shell::name(usize::from(index));
        let ends = |link: u8| shell::both(usize::from(link)).map(shell::name);
        match step {
            Step::Deliver(lane) => {
                let place = world.air.partition_point(|(other, _)| *other < lane);
                let message = &self.shell.parts.messages[world.air[place].1];
                format!("{} takes {} from {}", name(lane.to), told(message), name(lane.from))
            }
            Step::SyncLog(machine) => format!("{}: the log is synced", name(machine)),
            Step::SyncVote(machine) => format!("{}: the vote record is synced", name(machine)),
            Step::ReadLog(machine) => format!("{}: blocks are read from the log", name(machine)),
            Step::Timer(machine) => format!("{}: its timer fires", name(machine)),
            Step::Notice(machine, peer) => {
                let end = world.known_end(usize::from(machine), usize::from(peer));
                let what = if end == End::Coming { "is connected to" } else { "has lost" };
                format!("{} {what} {}", name(machine), name(peer))
            }
            Step::Attest(attested) => {
                format!("{} hears that {}'s process is dead", name(attested.to), name(attested.dead))
            }
            Step::Connect(link) => format!("{} and {} connect", ends(link)[0], ends(link)[1]),
            Step::Tick => format!("half a second passes ({})", world.time + 1),
            Step::Write(machine) => format!("a write comes to {}", name(machine)),
            Step::Crash { machine, attested, written } => {
                let how = if attested { "its guardian attests it" } else { "nobody attests it" };
                let disk = if written { "what it ordered is on the disk" } else { "what it ordered is lost" };
                format!("{} crashes; {how}; {disk}", name(machine))
            }
            Step::Restart(machine) => format!("{} starts", name(machine)),
            Step::Cut(link, [low, high]) => {
                let [one, other] = ends(link);
                let way = if low && high {
                    "<->"
                } else if low {
                    "->"
                } else {
                    "<-"
                };
                format!("{one} {way} {other} is cut")
            }
            Step::Heal(link) => format!("{} and {} can reach each other again", ends(link)[0], ends(link)[1]),
            Step::Break(link) => format!("the connection of {} and {} breaks", ends(link)[0], ends(link)[1]),
            Step::Pause(machine) => format!("{} is stopped", name(machine)),
            Step::Resume(machine) => format!("{} goes on", name(machine)),
        }
    }

    fn keep(&mut self, worlds: &[(u32, World)]) {
        self.shell.keep(worlds.iter().map(|(_, world)| world));
    }
}

/// A message in a few words.
fn told(message: &hotwarm_core::Message) -> String {
    use hotwarm_core::Message;
    match message {
        Message::Beacon { epoch, seq, .. } => format!("beacon {seq} of epoch {epoch}"),
        Message::BeaconAnswer { seq, grant, .. } => format!("{grant:?} for beacon {seq}"),
        Message::PollAnswer { hears_hot, .. } => format!("poll-answer (hears the hot: {hears_hot})"),
        Message::Prepare { ballot, .. } => format!("prepare {ballot}"),
        Message::Promise { ballot, .. } => format!("promise {ballot}"),
        Message::Accept { ballot, state, .. } => {
            let reign = state.reign;
            format!("accept {ballot}: {}, reign {reign}, in sync {:?}", state.version, state.in_sync)
        }
        Message::Accepted { ballot } => format!("accepted {ballot}"),
        Message::Announce { state } => format!("announce {}", state.version),
        Message::Append { epoch, block, committed, .. } => {
            format!("append {} of epoch {epoch}, committed {committed}", block.end())
        }
        Message::Ack { epoch, durable, .. } => format!("ack {durable} of epoch {epoch}"),
        Message::Commit { epoch, committed, .. } => format!("commit {committed} of epoch {epoch}"),
        other => other.name().to_owned(),
    }
}
