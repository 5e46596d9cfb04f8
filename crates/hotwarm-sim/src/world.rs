//! The world: machines, network, clients, an operator, and one heap of events in virtual time.
//!
//! Everything happens in the order of (time, sequence); one generator draws all. The other files of this crate add
//! to `World` what concerns them: `shell` carries out what a node orders, `serve` executes requests, `links` moves
//! messages, `faults` breaks things, `operator` mends them, `settle` ends the run.

use crate::bugs::Bug;
use crate::clock::{Clock, MS, SECOND};
use crate::copies::{Copy, GROUP};
use crate::devices::DeviceKind;
use crate::disk::{Disk, Owner};
use crate::drill::Drill;
use crate::faults::{Fault, FaultKind, Mend, Watches};
use crate::invariants::{Fact, Judges, View};
use crate::ledger::{Contradiction, Ledger};
use crate::machine::{Machine, Stimulus, Traffic};
use crate::network::{Network, Path};
use crate::operator::Operator;
use crate::oracle::Oracle;
use crate::outcome::{Happened, Kind, Violation};
use crate::plan::Plan;
use crate::rng::Rng;
use crate::run::Run;
use crate::settle::Settle;
use crate::small::Script;
use crate::trace::Trace;
use crate::workload::{Client, Reply, Request};
use hotwarm_core::register::{Cause, ChangeKind, ChangeRecord, GroupState, Member, MemberRole, ProposalId};
use hotwarm_core::{Input, Output};
use hotwarm_log::FolderIdentity;
use hotwarm_types::{ClusterId, EntryId, Epoch, FolderId, Incarnation, Instant, NodeId, Reign, StreamId, Version};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

/// Names of machines, in order.
pub const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

/// Wall time at the start of a run, in milliseconds since the Unix epoch.
pub const WALL_OFFSET_MS: u64 = 1_700_000_000_000;

/// Steps after which a run is a livelock.
const STEPS_MAX: u64 = 6_000_000;

/// What happens at a time.
#[derive(Debug)]
pub enum Event {
    /// A timer of a node.
    Timer { machine: usize, boot: u64 },
    /// The first order of a device is done.
    Disk { machine: usize, boot: u64, device: DeviceKind },
    /// The state machine is written out.
    Flush { machine: usize, boot: u64 },
    /// It is on the disk.
    Flushed { machine: usize, boot: u64 },
    /// The first message of a queue arrives.
    Arrive { link: usize, connection: u64, direction: usize, kind: usize },
    /// Somebody tries to connect.
    Connect { link: usize },
    /// One end learns of a connection.
    LinkUp { machine: usize, peer: usize, connection: u64 },
    /// One end learns of a break.
    LinkDown { machine: usize, boot: u64, peer: usize, connection: u64 },
    /// A connection over a cut link is given up.
    GiveUp { link: usize, connection: u64 },
    /// A guardian's attestation arrives.
    Attest { machine: usize, boot: u64, id: NodeId, incarnation: Incarnation },
    /// A stopped process goes on.
    Resume { machine: usize, boot: u64 },
    /// A process is started.
    Start { machine: usize },
    /// An empty folder asks to join.
    Join { machine: usize, boot: u64 },
    /// A fact for one process.
    Tell { machine: usize, boot: u64, fact: Box<Input> },
    /// A whole copy has been transferred.
    Transferred { from: (usize, u64), to: (usize, u64), link: usize, connection: u64, copy: Box<Copy> },
    /// A whole copy that was transferred is durable.
    Received { from: (usize, u64), to: (usize, u64), copy: Box<Copy> },
    /// A whole copy is ready to be put in place of log and state.
    Switch { machine: usize, boot: u64, stream: StreamId, at: EntryId },
    /// A request arrives.
    Request { machine: usize, request: Request },
    /// Requests are executed.
    Turn { machine: usize, boot: u64 },
    /// A reply arrives.
    Reply { request: Request, reply: Reply },
    /// A client's timer.
    Client { client: usize, timer: u64 },
    /// A client that was sent on asks again.
    Resend { client: usize, timer: u64 },
    /// The next fault.
    Fault,
    /// The next drill.
    Drill,
    /// The faults of a script, once the group is busy.
    Script { script: Script },
    /// One of them.
    Inject { fault: Box<Fault> },
    /// A fault of this kind, now, at this machine.
    Ambush { machine: usize, boot: u64, kind: FaultKind },
    /// A fault ends.
    Mend(Mend),
    /// A fault whose effect was not certain is over.
    FaultEnded { watch: u64 },
    /// A link that flaps goes down.
    Flap { link: usize },
    /// A process in a storm of restarts dies once more.
    StormDeath { machine: usize, attested: bool },
    /// The operator looks.
    Operator,
    /// The group is looked at, after the faults.
    Settle,
}

/// An entry of the heap; ordered by time, then by when it was scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: u64,
    sequence: u64,
    /// Where the event lies.
    place: u32,
}

/// What a run counts.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Facts that nodes took.
    pub steps: u64,
    /// Faults, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Events of nodes, by name.
    pub notes: BTreeMap<&'static str, u64>,
    /// How long each change of hot took, by kind of drill, nanoseconds.
    pub drills: BTreeMap<&'static str, Vec<u64>>,
}

/// One run.
#[derive(Debug)]
pub struct World {
    /// Virtual time in nanoseconds.
    pub now: u64,
    due: BinaryHeap<Reverse<Due>>,
    /// The events that are due, and which places in here are free: small entries make a fast heap.
    events: Vec<Option<Event>>,
    free: Vec<u32>,
    scheduled: u64,
    /// The source of all chance, but that of faults.
    pub rng: Rng,
    /// Draws the faults.
    pub fault_rng: Rng,
    /// How many were drawn.
    pub faults_drawn: u32,
    /// How often a process was to be caught at a moment of its own.
    pub ambushes: u32,
    /// Those that happened.
    pub happened: Vec<Happened>,
    /// Faults whose effect is not certain yet.
    pub watches: Watches,
    /// The cluster that the group belongs to.
    pub cluster: ClusterId,
    /// What the seed drew first.
    pub plan: Plan,
    /// The planted bug, if any.
    pub bug: Option<Bug>,
    /// The machines.
    pub machines: Vec<Machine>,
    /// The links between them.
    pub network: Network,
    /// The clients.
    pub clients: Vec<Client>,
    /// The last unique value written.
    pub unique: u64,
    /// Member numbers, by machine and folder.
    pub ids: BTreeMap<(usize, FolderId), NodeId>,
    /// The other way round.
    pub places: BTreeMap<NodeId, (usize, FolderId)>,
    /// The last process number.
    pub boots: u64,
    /// The operator.
    pub operator: Operator,
    /// What really happened.
    pub ledger: Ledger,
    /// The judges of invariants.
    pub judges: Judges,
    /// The judge of what clients saw.
    pub oracle: Oracle,
    /// How the run ends.
    pub settle: Settle,
    /// The drill that is not over.
    pub drill: Option<Drill>,
    /// What is told of it.
    pub trace: Trace,
    /// The first thing that went wrong.
    pub violation: Option<Violation>,
    /// What was counted.
    pub counts: Counts,
    /// Kept for its capacity.
    pub outputs: Vec<Output>,
}

impl World {
    /// The world of a seed, before anything happens.
    #[must_use]
    pub fn new(run: &Run, trace: Trace) -> Self {
        let mut rng = Rng::new(run.seed);
        let plan = Plan { only: run.only.clone(), ..Plan::draw(&mut rng, run.course) };
        let bug = run.bug;
        rng.steady = plan.is_of_drills();
        let birth = birth(&mut rng, &plan);
        let count = plan.roles.len() + plan.spares;
        let machines: Vec<_> = (0..count).map(|index| machine(&mut rng, &plan, bug, index, &birth)).collect();
        let path = Path { cut: false, delay: plan.delay, frames: 0, loss_per_mille: plan.loss_per_mille };
        let network = Network::new(count, path);
        let clients =
            (0..plan.clients).map(|index| Client::new(index, rng.index(plan.roles.len()), index < plan.readers));
        let clients = clients.collect();
        let mut world = Self {
            now: 0,
            due: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            scheduled: 0,
            fault_rng: Rng::new(rng.bits()),
            rng,
            faults_drawn: 0,
            ambushes: 0,
            happened: Vec::new(),
            watches: Watches::default(),
            cluster: birth.cluster,
            bug,
            machines,
            network,
            clients,
            unique: 0,
            ids: BTreeMap::new(),
            places: BTreeMap::new(),
            boots: 0,
            operator: Operator::default(),
            ledger: Ledger::default(),
            judges: Judges::default(),
            oracle: Oracle::default(),
            settle: Settle::new(&plan),
            drill: None,
            trace,
            violation: None,
            counts: Counts::default(),
            outputs: Vec::new(),
            plan,
        };
        world.learn_members(&birth);
        world.begin();
        world
    }

    /// The first events.
    fn begin(&mut self) {
        for machine in 0..self.machines.len() {
            let at = self.rng.below(200 * MS);
            self.schedule(at, Event::Start { machine });
        }
        for link in 0..self.network.links.len() {
            let wait = self.rng.below(20 * MS);
            self.connect_after(link, wait);
        }
        for client in 0..self.clients.len() {
            let at = 100 * MS + self.rng.below(100 * MS);
            self.schedule(at, Event::Client { client, timer: 0 });
        }
        if let Some(script) = self.plan.script {
            return self.schedule(SECOND / 4, Event::Script { script });
        }
        if self.plan.is_of_drills() {
            self.schedule(SECOND, Event::Drill);
        } else {
            let at = SECOND / 2 + self.rng.below(2 * self.plan.fault_interval);
            self.schedule(at, Event::Fault);
            let at = SECOND + self.rng.below(self.plan.operator_interval);
            self.schedule(at, Event::Operator);
        }
        self.schedule(self.plan.faults_until, Event::Settle);
    }

    /// Puts an event on the heap.
    pub fn schedule(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() as u32 - 1
        });
        self.events[place as usize] = Some(event);
        self.due.push(Reverse(Due { at: at.max(self.now), sequence: self.scheduled, place }));
    }

    /// Lets an event happen after a while.
    pub fn after(&mut self, wait: u64, event: Event) {
        self.schedule(self.now + wait, event);
    }

    /// Runs until the group has settled or something is wrong.
    pub fn run(&mut self) {
        while self.violation.is_none() && !self.settle.is_over() {
            if !self.advance() {
                return;
            }
        }
    }

    /// Lets the next event happen; whether there may be another.
    pub fn advance(&mut self) -> bool {
        let Some(Reverse(due)) = self.due.pop() else { return false };
        self.now = due.at;
        self.free.push(due.place);
        if let Some(event) = self.events[due.place as usize].take() {
            self.happen(event);
        }
        if self.counts.steps > STEPS_MAX {
            self.fail(Kind::Liveness, "livelock", format!("{STEPS_MAX} steps and no end"));
        }
        self.violation.is_none() && !self.settle.is_over()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Timer { machine, boot } => {
                // One that was set before an earlier one has nothing to say.
                let process = self.machines[machine].process.as_ref();
                if process.is_some_and(|process| process.boot == boot && process.timer_at == self.now) {
                    self.stimulate(machine, boot, Stimulus::Timer);
                }
            }
            Event::Disk { machine, boot, device } => self.disk_done(machine, boot, device),
            Event::Flush { machine, boot } => self.flush(machine, boot),
            Event::Flushed { machine, boot } => self.flushed(machine, boot),
            Event::Arrive { link, connection, direction, kind } => self.arrive(link, connection, direction, kind),
            Event::Connect { link } => self.try_connect(link),
            Event::LinkUp { machine, peer, connection } => self.link_up(machine, peer, connection),
            Event::LinkDown { machine, boot, peer, connection } => {
                self.stimulate(machine, boot, Stimulus::LinkDown { peer, connection });
            }
            Event::GiveUp { link, connection } => self.give_up(link, connection),
            Event::Attest { machine, boot, id, incarnation } => {
                let incarnation = self.attested(id, incarnation);
                let fact = Input::DeathAttested { peer: id, incarnation };
                self.stimulate(machine, boot, Stimulus::Fact(fact));
            }
            Event::Resume { machine, boot } => self.resume(machine, boot),
            Event::Start { machine } => self.start(machine),
            Event::Join { machine, boot } => self.ask_to_join(machine, boot),
            Event::Tell { machine, boot, fact } => self.stimulate(machine, boot, Stimulus::Fact(*fact)),
            Event::Transferred { from, to, link, connection, copy } => {
                self.transferred(from, to, link, connection, copy);
            }
            Event::Received { from, to, copy } => self.stimulate(to.0, to.1, Stimulus::Received { from, copy }),
            Event::Switch { machine, boot, stream, at } => self.switch(machine, boot, stream, at),
            Event::Request { machine, request } => self.request_arrives(machine, request),
            Event::Turn { machine, boot } => self.stimulate(machine, boot, Stimulus::Turn),
            Event::Reply { request, reply } => self.reply_arrives(request, reply),
            Event::Client { client, timer } => self.client_wakes(client, timer),
            Event::Resend { client, timer } => {
                if self.clients[client].timer == timer {
                    self.send_request(client);
                }
            }
            Event::Fault => self.next_fault(),
            Event::Drill => self.next_drill(),
            Event::Script { script } => self.begin_script(script),
            Event::Inject { fault } => self.inject(&fault, None),
            Event::Ambush { machine, boot, kind } => self.ambush(machine, boot, kind),
            Event::Mend(mend) => self.mend(mend),
            Event::FaultEnded { watch } => self.fault_ended(watch),
            Event::Flap { link } => self.flaps(link),
            Event::StormDeath { machine, attested } => self.dies_again(machine, attested),
            Event::Operator => self.operator_looks(),
            Event::Settle => self.look_whether_settled(),
        }
    }

    /// Notes the first thing that goes wrong; the run ends with it.
    pub fn fail(&mut self, kind: Kind, rule: &str, what: String) {
        if self.violation.is_none() {
            let violation = Violation { kind, rule: rule.to_owned(), step: self.counts.steps, time: self.now, what };
            self.trace.line(self.now, format_args!("!! {violation}"));
            self.violation = Some(violation);
        }
    }

    /// Notes a contradiction in what really happened.
    pub fn contradiction(&mut self, contradiction: Contradiction) {
        self.fail(Kind::Safety, contradiction.rule, contradiction.what);
    }

    /// Tells the judges a fact.
    pub fn judge(&mut self, fact: &Fact<'_>) {
        let view = View { machines: &self.machines, ids: &self.ids, ledger: &self.ledger, now: self.now };
        if let Err((rule, what)) = self.judges.observe(&view, fact) {
            self.fail(Kind::Safety, rule, what);
        }
    }

    /// A member's number becomes known to the world.
    pub fn learn_members(&mut self, state: &GroupState) {
        for (id, member) in &state.members {
            let Some(machine) = self.machine_named(&member.name) else { continue };
            self.place(*id, machine, member.folder);
        }
    }

    /// A number means this folder, and no other that was to have it and did not get it.
    pub fn place(&mut self, id: NodeId, machine: usize, folder: FolderId) {
        if self.places.insert(id, (machine, folder)) != Some((machine, folder)) {
            self.ids.retain(|_, known| *known != id);
            self.ids.insert((machine, folder), id);
        }
    }

    /// The machine of that name.
    #[must_use]
    pub fn machine_named(&self, name: &str) -> Option<usize> {
        NAMES.iter().position(|known| *known == name)
    }

    /// The member number of a machine's present folder.
    #[must_use]
    pub fn id_of(&self, machine: usize) -> Option<NodeId> {
        self.ids.get(&(machine, self.machines[machine].disk.folder())).copied()
    }

    /// The machine whose present folder is that of a member.
    #[must_use]
    pub fn machine_of(&self, id: NodeId) -> Option<usize> {
        let (machine, folder) = self.places.get(&id)?;
        (self.machines[*machine].disk.folder() == *folder).then_some(*machine)
    }
}

/// The state that `hotwarm init` writes into the folders of the first members.
fn birth(rng: &mut Rng, plan: &Plan) -> GroupState {
    let mut members = BTreeMap::new();
    for (index, role) in plan.roles.iter().enumerate() {
        let member = Member {
            name: NAMES[index].to_owned(),
            folder: FolderId(u128::from(rng.bits())),
            address: format!("{}:7400", NAMES[index]),
            role: *role,
            priority: plan.priorities[index],
        };
        members.insert(NodeId(index as u16 + 1), member);
    }
    let first = NodeId(1);
    let data: BTreeSet<_> =
        members.iter().filter(|(_, member)| member.role == MemberRole::Data).map(|(id, _)| *id).collect();
    let proposal = ProposalId { node: first, start: 0, counter: 0 };
    let record = ChangeRecord {
        version: Version(1),
        epoch: Epoch(1),
        at_ms: 0,
        by: proposal,
        kind: ChangeKind::Bootstrap,
        cause: Cause { word: "init".to_owned(), evidence: String::new() },
    };
    GroupState {
        cluster: ClusterId(u128::from(rng.bits())),
        group: GROUP,
        version: Version(0),
        proposal,
        reign: Reign { epoch: Epoch(1), node: first, incarnation: Incarnation::default() },
        lossy_epoch: None,
        in_sync: data,
        next_node: NodeId(members.len() as u16 + 1),
        members,
        members_version: Version(0),
        invited: BTreeMap::new(),
        settings: plan.settings.clone(),
        pause: None,
        changes: VecDeque::from([record]),
    }
}

fn machine(rng: &mut Rng, plan: &Plan, bug: Option<Bug>, index: usize, birth: &GroupState) -> Machine {
    let member = birth.members.get(&NodeId(index as u16 + 1));
    let folder = member.map_or_else(|| FolderId(u128::from(rng.bits())), |member| member.folder);
    // Half the runs have clocks at the very bound of R15.
    let error = if rng.percent(50) { 50_000 } else { 20_000 };
    let rate_ppm = match (bug, rng.percent(50)) {
        (Some(Bug::LeaseLongerThanGrace), slow) => {
            if slow {
                600_000
            } else {
                1_400_000
            }
        }
        (_, true) => 1_000_000 + error - rng.below(2) * 2 * error,
        (_, false) => 1_000_000 - error + rng.below(2 * error),
    };
    let owner = Owner {
        identity: FolderIdentity { cluster: birth.cluster, group: GROUP, name: NAMES[index].to_owned(), folder },
        segment_size_bytes: plan.segment_size_bytes,
    };
    Machine {
        name: NAMES[index].to_owned(),
        role: plan.roles.get(index).copied().unwrap_or(MemberRole::Data),
        priority: plan.priorities.get(index).copied().unwrap_or(100),
        clock: Clock::new(0, rng.below(1_000 * SECOND), rate_ppm),
        wall_offset_ms: WALL_OFFSET_MS,
        disk: Disk::empty(owner, member.map(|_| birth.clone()), rng.bits()),
        image: None,
        process: None,
        paused_until: None,
        paused_at: Instant(0),
        inbox: VecDeque::new(),
        disk_stalled_until: 0,
        sync: plan.sync,
        clients_cut: false,
        traffic: Traffic::default(),
        fenced: None,
        amnesiac: false,
        forged: None,
        wanted: member.is_some(),
        down_since: 0,
    }
}
