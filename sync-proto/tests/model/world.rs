//! A hub, its members and the network between them, around the shipped machines of
//! `sync_proto::commit`. What drives the machines is as small as it can be: it keeps what is
//! durable, carries messages, and dies when it is told to.
//!
//! Messages wait as long as they like, arrive in any order, some of them twice; one that is never
//! delivered is lost. Properties are checked where they could break, and whoever looks at a state
//! may have it healed, to see that nobody is stuck.

use sync_proto::commit::{
    Coordinator, CoordinatorAction, Fate, Participant, ParticipantAction as Do,
    ParticipantEvent as On, Policy, Witness, known_commits,
};
use sync_proto::wire::{Decision, TxnKey};

/// Of one world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) members: u8,
    pub(crate) policy: Policy,
    pub(crate) min_healthy: u32,
    /// How many pushes.
    pub(crate) pushes: u8,
    /// How often a process may die, over all.
    pub(crate) crashes: u8,
    /// How many messages may arrive twice.
    pub(crate) repeats: u8,
    /// How often the hub may lose its state.
    pub(crate) wipes: u8,
    /// A hub that lost its state asks until all members answer, or takes those that are there.
    pub(crate) asks_all: bool,
}

/// A push: its transaction, and the serial of what it publishes.
type Push = u8;

/// Pushes, as bits.
type Set = u8;

fn key(push: Push) -> TxnKey {
    [push; 16]
}

fn bit(push: Push) -> Set {
    1 << push
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Message {
    /// `Open` with this fence, and everything up to `Prepare`.
    Prepare(u8, Push, u64),
    Vote(u8, Push, bool),
    /// Commit, or not.
    Decide(u8, Push, bool),
    Confirm(u8, Push),
    /// A doubt in a `Hello`.
    Ask(u8, Push),
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Begin,
    /// A message; it may stay to come again, and a member may be unwilling.
    Deliver {
        at: u8,
        stays: bool,
        no: bool,
    },
    /// The hub finds a member gone.
    Lose(u8),
    Deadline,
    Cancel,
    /// The decision is durable.
    Record,
    /// The hub is told so.
    Recorded,
    /// The command ends.
    End,
    /// A member's durable step is done.
    Durable(u8),
    Ask(u8),
    KillHub,
    StartHub,
    KillMember(u8),
    StartMember(u8),
    Wipe,
    Recover,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Recording {
    No,
    Asked,
    Durable,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Run {
    push: Push,
    coordinator: Coordinator<u8>,
    recording: Recording,
    is_late: bool,
    /// Whose first word was heard, or who is out; and whether one of these words was a no.
    heard: u8,
    said_no: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Hub {
    is_up: bool,
    /// What is known of each push: nothing, begun, or decided.
    store: Vec<Option<Option<bool>>>,
    fence: u64,
    desired: Option<Push>,
    /// Its state was lost, and not read back.
    is_blank: bool,
    run: Option<Run>,
}

/// What is under way towards the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Work {
    Record(TxnKey),
    Forward,
    Switch,
    Retire,
    Undo,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Member {
    is_up: bool,
    participant: Participant,
    work: Option<Work>,
    // From here on: what its disk holds.
    fence: u64,
    vote: Option<(TxnKey, bool)>,
    last_committed: Option<TxnKey>,
    live: Option<TxnKey>,
    // And what only the checks know.
    committed: Set,
    undone: Set,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    hub: Hub,
    members: Vec<Member>,
    net: Vec<Message>,
    begun: Push,
    /// Decided to be committed, durably, at any time.
    decided: Set,
    /// Nobody whom a blank hub could ask knew of it any more.
    forgotten: Set,
    crashes: u8,
    repeats: u8,
    wipes: u8,
}

/// A property that doesn't hold.
pub(crate) type Broken = String;

impl World {
    pub(crate) fn new(setting: &Setting) -> Self {
        Self {
            hub: Hub {
                is_up: true,
                store: vec![None; usize::from(setting.pushes)],
                fence: 0,
                desired: None,
                is_blank: false,
                run: None,
            },
            members: (0..setting.members)
                .map(|_| Member {
                    is_up: true,
                    ..Member::default()
                })
                .collect(),
            net: Vec::new(),
            begun: 0,
            decided: 0,
            forgotten: 0,
            crashes: setting.crashes,
            repeats: setting.repeats,
            wipes: setting.wipes,
        }
    }

    /// Everything that may happen now.
    pub(crate) fn steps(&self, setting: &Setting) -> Vec<Step> {
        let mut steps = Vec::new();
        let is_able = self.hub.is_up && !self.hub.is_blank;
        if is_able && self.hub.run.is_none() && self.begun < setting.pushes {
            steps.push(Step::Begin);
        }
        for (at, message) in (0..).zip(&self.net) {
            if !self.is_heard(message) {
                continue;
            }
            let may_refuse = matches!(message, Message::Prepare(..));
            for stays in [false, true] {
                if stays && self.repeats == 0 {
                    continue;
                }
                steps.push(Step::Deliver {
                    at,
                    stays,
                    no: false,
                });
                if may_refuse && !stays {
                    steps.push(Step::Deliver {
                        at,
                        stays,
                        no: true,
                    });
                }
            }
        }
        if let Some(run) = &self.hub.run {
            if run.coordinator.decision().is_none() {
                if run.recording == Recording::No {
                    steps.extend((0..setting.members).map(Step::Lose));
                }
                if !run.is_late {
                    steps.extend([Step::Deadline, Step::Cancel]);
                }
            }
            match run.recording {
                Recording::Asked => steps.push(Step::Record),
                Recording::Durable => steps.push(Step::Recorded),
                Recording::No => {}
            }
            if run.coordinator.decision().is_some() {
                steps.push(Step::End);
            }
        }
        for (at, member) in (0..).zip(&self.members) {
            if !member.is_up {
                steps.push(Step::StartMember(at));
                continue;
            }
            if member.work.is_some() {
                steps.push(Step::Durable(at));
            } else if let Participant::Prepared { txn } = member.participant
                && !self.net.contains(&Message::Ask(at, txn[0]))
            {
                steps.push(Step::Ask(at));
            }
            if self.crashes > 0 {
                steps.push(Step::KillMember(at));
            }
        }
        if !self.hub.is_up {
            steps.push(Step::StartHub);
        } else if self.crashes > 0 {
            steps.push(Step::KillHub);
        }
        if self.wipes > 0 {
            steps.push(Step::Wipe);
        }
        let is_answered = !setting.asks_all || self.members.iter().all(|it| it.is_up);
        if self.hub.is_up && self.hub.is_blank && is_answered {
            steps.push(Step::Recover);
        }
        steps
    }

    /// Whether whoever a message is for can take it.
    fn is_heard(&self, message: &Message) -> bool {
        match *message {
            Message::Prepare(to, ..) => {
                let member = &self.members[usize::from(to)];
                member.is_up && member.work.is_none()
            }
            // Also while it is busy, when the machine must not begin anything else.
            Message::Decide(to, ..) => self.members[usize::from(to)].is_up,
            Message::Vote(..) | Message::Confirm(..) => self.hub.is_up && self.hub.run.is_some(),
            Message::Ask(_, push) => {
                // Doubts are answered by whoever has the platform's lock, and never about the
                // transaction whose votes it is collecting.
                let is_collecting =
                    self.hub.run.as_ref().is_some_and(|run| {
                        run.push == push && run.coordinator.decision().is_none()
                    });
                self.hub.is_up && !self.hub.is_blank && !is_collecting
            }
        }
    }

    /// Does one step.
    pub(crate) fn apply(&mut self, setting: &Setting, step: Step) -> Result<(), Broken> {
        match step {
            Step::Begin => self.begin(setting),
            Step::Deliver { at, stays, no } => {
                let message = self.net[usize::from(at)];
                if stays {
                    self.repeats -= 1;
                } else {
                    self.net.remove(usize::from(at));
                }
                self.deliver(setting, message, no)?;
            }
            Step::Lose(member) => {
                if let Some(run) = &mut self.hub.run {
                    run.heard |= bit(member);
                }
                self.coordinate(setting, |it| it.handle_lost(&member))?;
            }
            Step::Deadline => {
                if let Some(run) = &mut self.hub.run {
                    run.is_late = true;
                }
                self.coordinate(setting, Coordinator::handle_deadline)?;
            }
            Step::Cancel => self.coordinate(setting, Coordinator::handle_cancel)?,
            Step::Record => self.record(setting)?,
            Step::Recorded => {
                if let Some(run) = &mut self.hub.run {
                    run.recording = Recording::No;
                }
                self.coordinate(setting, Coordinator::handle_recorded)?;
            }
            Step::End => self.end()?,
            Step::Durable(member) => self.durable(member)?,
            Step::Ask(member) => {
                if let Participant::Prepared { txn } = self.members[usize::from(member)].participant
                {
                    self.send(Message::Ask(member, txn[0]));
                }
            }
            Step::KillHub => {
                self.crashes -= 1;
                self.hub.is_up = false;
                self.hub.run = None;
            }
            Step::StartHub => self.hub.is_up = true,
            Step::KillMember(member) => {
                self.crashes -= 1;
                let member = &mut self.members[usize::from(member)];
                member.is_up = false;
                member.work = None;
                member.participant = Participant::Idle;
            }
            Step::StartMember(member) => self.members[usize::from(member)].start(),
            Step::Wipe => {
                self.wipes -= 1;
                let pushes = self.hub.store.len();
                self.hub.store = vec![None; pushes];
                (self.hub.fence, self.hub.desired, self.hub.run) = (0, None, None);
                self.hub.is_blank = true;
            }
            Step::Recover => self.recover()?,
        }
        Ok(())
    }

    /// A second copy of what is still under way is what `repeats` is for.
    fn send(&mut self, message: Message) {
        if let Err(at) = self.net.binary_search(&message) {
            self.net.insert(at, message);
        }
    }

    fn begin(&mut self, setting: &Setting) {
        let push = self.begun;
        self.begun += 1;
        self.hub.store[usize::from(push)] = Some(None);
        let highest = self.members.iter().map(|it| it.fence).max();
        self.hub.fence = self.hub.fence.max(highest.unwrap_or(0)) + 1;
        let (reached, unreached): (Vec<u8>, Vec<u8>) =
            (0..setting.members).partition(|at| self.members[usize::from(*at)].is_up);
        for member in &reached {
            self.send(Message::Prepare(*member, push, self.hub.fence));
        }
        let heard = unreached.iter().fold(0, |set, at| set | bit(*at));
        self.hub.run = Some(Run {
            push,
            coordinator: Coordinator::new(setting.policy, reached, unreached, setting.min_healthy),
            recording: Recording::No,
            is_late: false,
            heard,
            said_no: false,
        });
    }

    fn deliver(&mut self, setting: &Setting, message: Message, no: bool) -> Result<(), Broken> {
        match message {
            Message::Prepare(to, push, fence) => self.prepare(to, push, fence, no),
            Message::Decide(to, push, commit) => {
                let decision = if commit {
                    Decision::Commit
                } else {
                    Decision::Abort
                };
                let txn = key(push);
                self.participate(to, push, On::Decide { txn, decision })
            }
            Message::Vote(from, push, yes) => {
                if let Some(run) = self.hub.run.as_mut().filter(|run| run.push == push) {
                    let is_open =
                        run.recording == Recording::No && run.coordinator.decision().is_none();
                    let is_first = run.heard & bit(from) == 0;
                    run.said_no |= is_open && is_first && !yes;
                    run.heard |= bit(from);
                    self.coordinate(setting, |it| it.handle_vote(&from, yes))?;
                }
                Ok(())
            }
            Message::Confirm(from, push) => {
                if let Some(run) = self.hub.run.as_mut().filter(|run| run.push == push) {
                    run.coordinator.handle_settled(&from);
                }
                Ok(())
            }
            Message::Ask(from, push) => {
                let known = &mut self.hub.store[usize::from(push)];
                if *known == Some(None) {
                    *known = Some(Some(false));
                }
                let commit = known.flatten().unwrap_or(false);
                self.send(Message::Decide(from, push, commit));
                Ok(())
            }
        }
    }

    /// `Open`, staging and `Prepare` in one.
    fn prepare(&mut self, to: u8, push: Push, fence: u64, no: bool) -> Result<(), Broken> {
        let member = &mut self.members[usize::from(to)];
        if no && member.vote.is_none() {
            self.refuse(to, push);
            return Ok(());
        }
        // Who is in doubt about another opens nothing, so its fence stays; the machine refuses.
        if member.participant.unsettled().is_none() {
            member.fence = member.fence.max(fence);
        }
        let txn = key(push);
        self.participate(to, push, On::Prepare { txn, fence })
    }

    /// A no. Requests of one session come once and in their order, and no other session has this
    /// fence: a copy of the one that was refused would never be heard.
    fn refuse(&mut self, at: u8, push: Push) {
        self.net
            .retain(|it| !matches!(it, Message::Prepare(to, of, _) if (*to, *of) == (at, push)));
        self.send(Message::Vote(at, push, false));
    }

    /// An event at a member, and what the machine wants done about it.
    fn participate(&mut self, at: u8, push: Push, event: On) -> Result<(), Broken> {
        let member = &mut self.members[usize::from(at)];
        let action = member.participant.handle(event, member.fence);
        let is_prepare = matches!(event, On::Prepare { .. });
        let is_old = matches!(event, On::Prepare { fence, .. } if fence < member.fence);
        let work = match action {
            Do::Record if is_old => {
                return Err(format!(
                    "I9: member {at} prepares {push} behind a newer fence"
                ));
            }
            Do::Record => Work::Record(key(push)),
            Do::RecordForward => Work::Forward,
            Do::Switch => Work::Switch,
            Do::Undo => Work::Undo,
            Do::VoteYes => {
                ensure(member.vote == Some((key(push), false)), || {
                    format!("I2: member {at} votes for {push} and its record isn't durable")
                })?;
                self.send(Message::Vote(at, push, true));
                return Ok(());
            }
            Do::Confirm => {
                self.send(Message::Confirm(at, push));
                return Ok(());
            }
            Do::Refuse if is_prepare => {
                self.refuse(at, push);
                return Ok(());
            }
            Do::Refuse | Do::Wait => return Ok(()),
        };
        ensure(member.work.is_none(), || {
            format!(
                "I9: member {at} begins to {work:?} before it is done with {:?}",
                member.work
            )
        })?;
        member.work = Some(work);
        Ok(())
    }

    /// What was under way is on the disk.
    fn durable(&mut self, at: u8) -> Result<(), Broken> {
        let member = &mut self.members[usize::from(at)];
        let Some(work) = member.work.take() else {
            return Ok(());
        };
        let voted = member.vote.map(|(txn, _)| txn);
        let event = match work {
            Work::Record(txn) => {
                ensure(voted.is_none_or(|it| it == txn), || {
                    format!("I3: member {at} gives up its vote without a word of the hub")
                })?;
                member.vote = Some((txn, false));
                On::RecordDurable
            }
            Work::Forward => {
                member.vote = voted.map(|txn| (txn, true));
                On::ForwardDurable
            }
            Work::Switch => {
                let Some((txn, is_forward)) = member.vote else {
                    return Err(format!("I2: member {at} switches and has not voted"));
                };
                ensure(is_forward, || {
                    format!("I1: member {at} switches, and may go back")
                })?;
                member.live = Some(txn);
                member.last_committed = Some(txn);
                member.committed |= bit(txn[0]);
                member.work = Some(Work::Retire);
                return self.check(txn[0]);
            }
            Work::Retire => {
                member.vote = None;
                On::Switched
            }
            Work::Undo => {
                ensure(
                    member.vote.is_none_or(|(_, is_forward)| !is_forward),
                    || format!("I9: member {at} goes back from a commit that was begun"),
                )?;
                member.vote = None;
                if let Some(txn) = voted {
                    member.undone |= bit(txn[0]);
                }
                On::Undone
            }
        };
        let subject = match work {
            Work::Record(txn) => txn[0],
            _ => voted.map_or(0, |txn| txn[0]),
        };
        self.participate(at, subject, event)?;
        self.check(subject)
    }

    /// An event at the coordinator, and what it wants done.
    fn coordinate(
        &mut self,
        setting: &Setting,
        event: impl FnOnce(&mut Coordinator<u8>) -> Vec<CoordinatorAction<u8>>,
    ) -> Result<(), Broken> {
        let Some(run) = &mut self.hub.run else {
            return Ok(());
        };
        let (before, push) = (run.coordinator.decision(), run.push);
        let actions = event(&mut run.coordinator);
        let after = run.coordinator.decision();
        ensure(before.is_none() || before == after, || {
            format!("I3: the decision about {push} changes")
        })?;
        if before.is_none() && after == Some(Decision::Abort) {
            // What isn't recorded is an abort anyway; this is when it is.
            let known = &mut self.hub.store[usize::from(push)];
            ensure(*known != Some(Some(true)), || {
                format!("I3: {push} is called off and was recorded as committed")
            })?;
            *known = Some(Some(false));
        }
        for action in actions {
            match action {
                CoordinatorAction::Record => {
                    self.has_the_votes(setting, push)?;
                    if let Some(run) = &mut self.hub.run {
                        run.recording = Recording::Asked;
                    }
                }
                CoordinatorAction::Send(to, decision) => {
                    let commit = decision == Decision::Commit;
                    ensure(!commit || self.decided & bit(push) != 0, || {
                        format!("I3: {to} hears of the commit of {push} before it is durable")
                    })?;
                    let told = &self.members[usize::from(to)];
                    let is_voter = told.vote.is_some_and(|(txn, _)| txn == key(push));
                    ensure(
                        !commit || is_voter || told.committed & bit(push) != 0,
                        || format!("I3: {to} is told to commit {push}, and never voted for it"),
                    )?;
                    self.send(Message::Decide(to, push, commit));
                }
            }
        }
        Ok(())
    }

    /// The votes that the policy needs are on the disks of those who cast them.
    fn has_the_votes(&self, setting: &Setting, push: Push) -> Result<(), Broken> {
        let votes = self
            .members
            .iter()
            .filter(|it| it.vote == Some((key(push), false)));
        let least = setting.min_healthy.max(1);
        let needed = match setting.policy {
            Policy::All => u32::from(setting.members),
            Policy::Quorum(count) => count.max(least),
            Policy::Reachable => least,
            Policy::Each => 1,
        };
        // A doubt that was answered meanwhile was answered with abort, and so is the record.
        let is_unanimous = matches!(setting.policy, Policy::All | Policy::Reachable);
        let said_no = self.hub.run.as_ref().is_some_and(|run| run.said_no);
        ensure(!is_unanimous || !said_no, || {
            format!("I9: {push} is to be committed, and a member said no")
        })?;
        let is_called_off = self.hub.store[usize::from(push)] == Some(Some(false));
        ensure(is_called_off || votes.count() as u32 >= needed, || {
            format!("I2: {push} is to be committed without the votes for it")
        })
    }

    fn record(&mut self, setting: &Setting) -> Result<(), Broken> {
        let Some(run) = &mut self.hub.run else {
            return Ok(());
        };
        let push = run.push;
        let known = &mut self.hub.store[usize::from(push)];
        if *known == Some(Some(false)) {
            // The state refuses a second, other decision; the command ends, and tells nobody.
            self.hub.run = None;
            return Ok(());
        }
        *known = Some(Some(true));
        run.recording = Recording::Durable;
        self.hub.desired = Some(push);
        self.decided |= bit(push);
        self.has_the_votes(setting, push)
    }

    /// What is reported of each member is true.
    fn end(&mut self) -> Result<(), Broken> {
        let Some(run) = self.hub.run.take() else {
            return Ok(());
        };
        for (at, fate) in run.coordinator.fates().unwrap_or_default() {
            let member = &self.members[usize::from(at)];
            let is_committed = member.committed & bit(run.push) != 0;
            let holds = match fate {
                Fate::Committed => is_committed,
                Fate::Failed | Fate::Aborted => !is_committed,
                Fate::InDoubt | Fate::Stale => true,
            };
            ensure(holds, || {
                format!("I9: {at} is reported as {fate:?} after {}", run.push)
            })?;
        }
        Ok(())
    }

    /// `fanout init --recover`.
    fn recover(&mut self) -> Result<(), Broken> {
        let asked: Vec<&Member> = self.members.iter().filter(|it| it.is_up).collect();
        let fence = asked.iter().map(|it| it.fence).max().unwrap_or(0);
        let witnesses: Vec<Witness> = asked.iter().map(|it| it.witness()).collect();
        let committed = known_commits(&witnesses);
        for txn in (0..self.begun).map(key) {
            let knows =
                |it: &&Member| it.vote == Some((txn, true)) || it.last_committed == Some(txn);
            if !asked.iter().any(knows) {
                self.forgotten |= bit(txn[0]);
            }
        }
        // What is live on most members, the newer of two.
        let lives = || asked.iter().filter_map(|it| it.live);
        let most = lives().max_by_key(|it| (lives().filter(|other| other == it).count(), *it));
        self.hub.desired = most.map(|txn| txn[0]);
        for txn in committed {
            ensure(self.decided & bit(txn[0]) != 0, || {
                format!("I12: a hub that was blank decides {} anew", txn[0])
            })?;
            self.hub.store[usize::from(txn[0])] = Some(Some(true));
        }
        let desired = self.hub.desired;
        ensure(
            desired.is_none_or(|push| self.decided & bit(push) != 0),
            || format!("I12: {desired:?} is desired, and nobody decided so"),
        )?;
        self.hub.fence = self.hub.fence.max(fence);
        self.hub.is_blank = false;
        Ok(())
    }

    /// No mixture: what one member has committed no other has undone, and all of it was decided.
    fn check(&self, push: Push) -> Result<(), Broken> {
        let any = |of: fn(&Member) -> Set| self.members.iter().any(|it| of(it) & bit(push) != 0);
        let is_committed = any(|it| it.committed);
        ensure(!is_committed || self.decided & bit(push) != 0, || {
            format!("I3: {push} is live somewhere, and was never decided")
        })?;
        let is_mixed = is_committed && any(|it| it.undone);
        // Of what nobody knows any more a blank hub says abort; that is its residue.
        ensure(!is_mixed || self.forgotten & bit(push) != 0, || {
            format!("I9: {push} was committed by one member and undone by another")
        })
    }

    /// Everybody is started, everybody in doubt asks, nothing gets lost: all must be settled then.
    pub(crate) fn heal(&self, setting: &Setting) -> Result<(), Broken> {
        let mut world = self.clone();
        world.net.clear();
        (world.hub.is_up, world.hub.run) = (true, None);
        world.crashes = 0;
        for member in world.members.iter_mut().filter(|it| !it.is_up) {
            member.start();
        }
        for _round in 0..4 {
            for at in 0..setting.members {
                while world.members[usize::from(at)].work.is_some() {
                    world.durable(at)?;
                }
            }
            if world.hub.is_blank {
                world.recover()?;
            }
            world.net.clear();
            for at in 0..setting.members {
                let member = &world.members[usize::from(at)];
                if let Some((txn, _)) = member.vote {
                    world.deliver(setting, Message::Ask(at, txn[0]), false)?;
                }
            }
            let told: Vec<Message> = std::mem::take(&mut world.net);
            for message in told {
                world.deliver(setting, message, false)?;
            }
        }
        for (at, member) in (0..).zip(&world.members) {
            ensure(member.vote.is_none(), || {
                format!("I9: {at} is in doubt for ever")
            })?;
            let live = member.live.map_or(0, |txn| bit(txn[0]));
            ensure(live & !world.decided == 0, || {
                format!("I12: {at} ends at what nobody decided")
            })?;
        }
        (0..setting.pushes).try_for_each(|push| world.check(push))
    }
}

impl Member {
    /// From the disk, as a restarted agent.
    fn start(&mut self) {
        self.is_up = true;
        self.participant = Participant::resume(self.vote, self.last_committed);
        if let Participant::Forward { .. } = self.participant {
            self.work = Some(Work::Switch);
        }
    }

    fn witness(&self) -> Witness {
        Witness::of(self.vote, self.last_committed)
    }
}

fn ensure(holds: bool, broken: impl FnOnce() -> Broken) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(broken()) }
}
