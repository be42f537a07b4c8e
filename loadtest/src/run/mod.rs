//! A run: carries a scenario's plan out against its target in real time, and makes results of what happened.

mod crowd;
mod openmetrics;
mod progress;
mod recorder;
mod target;
mod watch;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use self::crowd::{Crowd, Part};
use self::target::TargetMesh;
use self::watch::NodeWatch;
use crate::driver::{Driver, DriverConfig, process_time};
use crate::fleet::FleetError;
use crate::media::{Source, SourceError};
use crate::plan::{Action, Leg, Plan, PlannedUser};
use crate::preflight::{self, LimitError};
use crate::results::{Ended, Event, Results, SCHEMA_VERSION, TargetInfo};
use crate::scenario::{Scenario, TargetNode, Users};
use crate::transport::{Certificate, TransportConfig, TransportError};
use crate::user::UserConfig;
use crate::verdict::{self, Measured};

pub use self::progress::{Observer, Quiet, Terminal};
pub use self::recorder::{JoinCounts, Recorder, Second};

/// Between two looks at everything.
const SECOND: Duration = Duration::from_secs(1);

/// Certificates that all users share in turn: making one for each would take longer than the ramp.
const CERTIFICATES: usize = 16;

/// What a scenario does not say.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// What the target is called in results; `None`: as its scenario has it.
    pub label: Option<String>,
    /// The program of an own mesh's nodes; `None`: the `sluice` beside this executable.
    pub sluice: Option<PathBuf>,
    /// Nanoseconds that this machine's clock is ahead of those of other generators in the same rooms; `None`: delays of
    /// what their users send are not told.
    pub clock_ahead_ns: Option<i64>,
}

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The system's limits are too low for it.
    #[error(transparent)]
    Limits(#[from] LimitError),
    /// The own mesh did not start.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// A node does not answer as it should.
    #[error("node {node} at {url}: {why}")]
    Unreachable {
        /// The node.
        node: String,
        /// Where it should be.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// A media file is not fit to be sent.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Users' certificates cannot be made.
    #[error("users' certificates: {0}")]
    Certificate(#[from] TransportError),
}

impl RunError {
    fn unreachable(node: &TargetNode, why: &str) -> Self {
        Self::Unreachable { node: node.name.clone(), url: node.url.clone(), why: why.to_owned() }
    }
}

/// Runs a scenario until its end, or until `stop` is cancelled: then what ran until then is judged as far as it goes.
///
/// # Errors
/// [`RunError`] when it cannot begin.
pub async fn run(
    scenario: &Scenario,
    options: &RunOptions,
    stop: CancellationToken,
    observer: &mut dyn Observer,
) -> Result<Results, RunError> {
    for warning in preflight::check(scenario)? {
        observer.say(&format!("warning: {warning}"));
    }
    let plan = Arc::new(Plan::new(scenario));
    let parts = Parts::new(scenario, &plan)?;
    if scenario.is_own_mesh() {
        observer.say(&format!("starting {} node(s)", plan.nodes.len()));
    }
    let target = TargetMesh::prepare(scenario, &plan, options.sluice.clone()).await?;
    observer.say(&format!("{}: {} users, {} s", scenario.name, plan.users.len(), plan.end.as_secs()));
    let mut run = Conductor::new(scenario, options, plan, parts, target);
    let ended = run.conduct(stop, observer).await;
    Ok(run.conclude(options, ended).await)
}

/// What users have in common, made before the ramp.
struct Parts {
    certificates: Vec<Arc<Certificate>>,
    /// What users of a kind send, by the kind's place in memory: the plan's users share their kinds.
    sources: HashMap<*const Users, Vec<Vec<Source>>>,
    open_every: u32,
}

impl Parts {
    fn new(scenario: &Scenario, plan: &Plan) -> Result<Self, RunError> {
        let mut parts = HashMap::new();
        for user in &plan.users {
            if let Entry::Vacant(kind) = parts.entry(Arc::as_ptr(&user.kind)) {
                kind.insert(sources(&user.kind)?);
            }
        }
        let count = plan.users.len().clamp(1, CERTIFICATES);
        let certificates = (0..count).map(|_| Certificate::generate()).collect::<Result<_, _>>()?;
        Ok(Self { certificates, sources: parts, open_every: scenario.generator.open_every })
    }

    fn part(&self, index: usize, user: &PlannedUser, target: &TargetMesh) -> Result<Part, RunError> {
        let node = target.nodes().get(user.node).ok_or_else(|| RunError::Unreachable {
            node: user.node.to_string(),
            url: String::new(),
            why: "the target has no such node".to_owned(),
        })?;
        let certificate = self.certificates[index % self.certificates.len()].clone();
        let mut transport = TransportConfig::new(certificate);
        transport.open_every = self.open_every;
        let mut config = UserConfig::new(&node.url, &user.room, &user.peer, transport, user.seed);
        config.query = target::added_query(node);
        config.tls = target.tls(user.node);
        config.produce = user.kind.sends();
        config.consume = user.kind.watches();
        config.produce_data = user.kind.data.is_some();
        config.consume_data = user.kind.watch_data;
        config.watch_audio = user.kind.watch_audio;
        config.watch_video = user.kind.watch_video;
        config.tcp = user.kind.tcp;
        config.group = user.group;
        config.path = target.user_path(user.node);
        let sources = self.sources.get(&Arc::as_ptr(&user.kind)).cloned().unwrap_or_default();
        Ok(Part { config, sources, data: user.kind.data })
    }
}

/// The encodings of each thing that they send.
fn sources(kind: &Users) -> Result<Vec<Vec<Source>>, SourceError> {
    let audio = kind.audio.as_ref().map(|audio| Source::from_audio(audio).map(|source| vec![source]));
    let video = kind.video.as_ref().map(Source::from_video);
    audio.into_iter().chain(video).collect()
}

/// Carries out the plan.
struct Conductor<'a> {
    scenario: &'a Scenario,
    plan: Arc<Plan>,
    parts: Parts,
    target: TargetMesh,
    driver: Driver,
    crowd: Crowd,
    watch: NodeWatch,
    recorder: Recorder,
    start: Instant,
    started_unix: Duration,
    last_second: Instant,
    cpu: Duration,
    is_steady: bool,
}

impl<'a> Conductor<'a> {
    fn new(scenario: &'a Scenario, options: &RunOptions, plan: Arc<Plan>, parts: Parts, target: TargetMesh) -> Self {
        let driver = Driver::new(DriverConfig {
            threads: usize::from(scenario.generator.threads),
            coalesce: scenario.generator.coalesce,
            clock_ahead_ns: options.clock_ahead_ns,
            ..DriverConfig::default()
        });
        let start = now();
        Self {
            crowd: Crowd::new(driver.clone()),
            watch: NodeWatch::start(target.nodes()),
            recorder: Recorder::new(plan.groups.clone()),
            started_unix: driver.clock().unix(start),
            start,
            last_second: start,
            cpu: process_time(),
            is_steady: false,
            scenario,
            plan,
            parts,
            target,
            driver,
        }
    }

    /// Until the end of the plan or the cancellation of `stop`.
    async fn conduct(&mut self, stop: CancellationToken, observer: &mut dyn Observer) -> Ended {
        let mut timeline = self.plan.timeline();
        let end = self.start + self.plan.end;
        let mut next_second = self.start + SECOND;
        loop {
            let due = timeline.next_at().map_or(end, |at| (self.start + at).min(end));
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.second(timeline.users_wanted(), observer).await;
                    return Ended::Interrupted;
                }
                () = tokio::time::sleep_until(next_second.into()) => {
                    self.second(timeline.users_wanted(), observer).await;
                    // Seconds that were slept through are not made up for.
                    next_second = (next_second + SECOND).max(now());
                }
                () = tokio::time::sleep_until(due.into()) => {
                    if now() >= end {
                        self.second(timeline.users_wanted(), observer).await;
                        return Ended::Completed;
                    }
                    while let Some(step) = timeline.poll(self.start.elapsed()) {
                        // What paths are like from the start they are already.
                        if step.at.is_zero() && matches!(step.action, Action::Path { .. }) {
                            continue;
                        }
                        if let Err(error) = self.act(step.action, observer).await {
                            return Ended::Aborted { reason: error.to_string() };
                        }
                    }
                }
            }
        }
    }

    async fn act(&mut self, action: Action, observer: &mut dyn Observer) -> Result<(), RunError> {
        match action {
            Action::Join(index) => {
                let Some(user) = self.plan.users.get(index) else { return Ok(()) };
                self.crowd.join(index, self.parts.part(index, user, &self.target)?);
            }
            Action::Leave(index) => self.crowd.leave(index),
            Action::Path { leg, config } => {
                self.target.set_path(leg, config)?;
                self.note(format!("{}: {config}", self.leg_name(leg)), observer);
            }
            Action::Fault(action) => {
                self.note(action.to_string(), observer);
                self.target.inflict(&action).await?;
            }
        }
        Ok(())
    }

    fn leg_name(&self, leg: Leg) -> String {
        let region = |index: usize| self.plan.nodes.get(index).map_or("?", |node| node.region.as_str());
        match leg {
            Leg::Nodes { from, to } => format!("{} to {}", region(from), region(to)),
            Leg::Up(node) => format!("users of {0} to {0}", region(node)),
            Leg::Down(node) => format!("{0} to its users", region(node)),
        }
    }

    fn note(&mut self, what: String, observer: &mut dyn Observer) {
        let at = self.start.elapsed();
        self.recorder.note(at, what.clone());
        observer.event(&Event { at_s: at.as_secs_f64(), what });
    }

    /// Gathers what happened since the last second.
    async fn second(&mut self, users_wanted: u32, observer: &mut dyn Observer) {
        let steady = self.start.elapsed() >= self.scenario.ramp;
        let collected = self.driver.collect().await;
        let (now, cpu) = (now(), process_time());
        let second = Second {
            at: now - self.start,
            interval: now - self.last_second,
            steady: self.is_steady,
            users_wanted,
            users_joined: self.crowd.joined(),
            joins: self.crowd.take_joins(),
            collected,
            nodes: self.watch.samples(),
            cpu: cpu.saturating_sub(self.cpu),
        };
        (self.last_second, self.cpu) = (now, cpu);
        for failure in self.crowd.take_failures() {
            self.note(failure, observer);
        }
        let sample = self.recorder.add(second);
        observer.second(sample, self.plan.end.as_secs_f64());
        if steady && !self.is_steady {
            self.is_steady = true;
            self.watch.begin();
        }
    }

    /// Everybody leaves, and the results are put together.
    async fn conclude(self, options: &RunOptions, ended: Ended) -> Results {
        let Self { scenario, plan, target, crowd, watch, recorder, start, started_unix, last_second, .. } = self;
        let received = recorder.received_by_node(plan.nodes.iter().map(|node| node.name.as_str()));
        let nodes = watch.totals(&received);
        drop(watch);
        crowd.disperse().await;
        let label = options.label.clone().unwrap_or_else(|| target::label(&scenario.target));
        let target_info = TargetInfo { label, nodes: target.infos() };
        target.shutdown().await;

        let joins = recorder.joins();
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let generator = verdict::generator_totals(recorder.samples(), &scenario.generator, processors);
        let steady = recorder.steady_samples();
        let (slo, verdict) = verdict::judge(
            &scenario.slo,
            &Measured {
                ended: &ended,
                ramp: scenario.ramp,
                samples: recorder.samples(),
                steady: &recorder.steady_of_all(),
                joins: &joins,
                generator: &generator,
            },
        );
        let (groups, samples, events) = recorder.finish();
        Results {
            schema_version: SCHEMA_VERSION,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            scenario: scenario.info(),
            target: target_info,
            started_unix_ms: u64::try_from(started_unix.as_millis()).unwrap_or(u64::MAX),
            ran_s: (last_second - start).as_secs_f64(),
            ended,
            groups,
            samples,
            steady,
            joins,
            nodes,
            generator,
            events,
            slo,
            verdict,
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a run is in real time")]
fn now() -> Instant {
    Instant::now()
}
