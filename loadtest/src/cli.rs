//! The command line of `sluice-loadtest`.
//!
//! Exit codes: 0 when all objectives were met, 1 when some were not, 2 when there is nothing to judge: wrong input, a
//! target that cannot be reached, a run in which the generator was the bottleneck.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::capacity::{self, CapacityOptions};
use crate::report;
use crate::results::Results;
use crate::run::{self, Observer, RunOptions, Terminal};
use crate::scenario::{Overrides, Path as WanPath, Scenario, ScenarioFile, TargetNode, shipped_names};

/// When there is nothing to judge.
const NOT_JUDGED: u8 = 2;

/// Loads an SFU with virtual users and says what they got.
#[derive(Debug, Parser)]
#[command(name = "sluice-loadtest", version, arg_required_else_help = true)]
struct Cli {
    /// Logs of the generator itself: `warn`, `debug`, `sluice_loadtest::user=trace`
    #[arg(long, global = true, value_name = "FILTER", default_value = "warn,dcsctp=error")]
    log: String,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a scenario and judge what users got
    Run {
        #[command(flatten)]
        scenario: ScenarioArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Raise the load until an objective is missed, and tell the most users that were carried
    Capacity {
        /// Scenario that comes with the program, or the path of a TOML file
        #[arg(long = "scenario", value_name = "SCENARIO")]
        name: String,
        /// Users of the first step
        #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
        from: u32,
        /// No step has more users than this
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
        to: u32,
        /// Stop when the answer is known to this share, in percent
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=50), value_name = "PERCENT")]
        precision: u32,
        #[command(flatten)]
        flags: ScenarioFlags,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Set results side by side
    Compare {
        /// Results of runs
        #[arg(required = true, num_args = 2.., value_name = "RESULTS.json")]
        results: Vec<PathBuf>,
        /// Also write a page with charts
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// Print the summary of results again, and make their page
    Report {
        /// Results of a run
        #[arg(value_name = "RESULTS.json")]
        results: PathBuf,
        /// Also write a page with charts
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// List the scenarios that come with the program, or print one
    Scenarios {
        /// Print this one's TOML, as a beginning of one's own
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
}

#[derive(Debug, Args)]
struct ScenarioArgs {
    /// Scenario that comes with the program, or the path of a TOML file
    #[arg(value_name = "SCENARIO")]
    name: String,
    /// Number of users in all
    #[arg(long, value_name = "N")]
    users: Option<u32>,
    #[command(flatten)]
    flags: ScenarioFlags,
}

/// What flags say instead of the scenario's file.
#[derive(Debug, Args)]
struct ScenarioFlags {
    /// Start a mesh on this machine instead of using nodes that run already, and stop it at the end
    #[arg(long, conflicts_with = "targets")]
    dev: bool,
    /// Nodes of that mesh, one region each: eu, us, ap and so on
    #[arg(long, value_name = "N")]
    nodes: Option<u16>,
    /// Media workers of each node of that mesh; 0: one for each processor
    #[arg(long, value_name = "N")]
    workers: Option<u16>,
    /// A node that runs already: [REGION=]URL[,metrics=URL][,pid=N][,query=TEXT][,name=NAME][,insecure]; repeat for
    /// more
    #[arg(long = "target", value_name = "NODE")]
    targets: Vec<TargetNode>,
    /// Number of rooms
    #[arg(long, value_name = "N")]
    rooms: Option<u32>,
    /// Time over which users join
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    ramp: Option<Duration>,
    /// Time after the ramp
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Decides everything random
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Video of everybody who sends some, in bits per second
    #[arg(long, value_name = "BITS")]
    video_bitrate: Option<u32>,
    /// Audio of everybody who sends some, in bits per second
    #[arg(long, value_name = "BITS")]
    audio_bitrate: Option<u32>,
    /// A path that is not perfect: eu-us=80ms,1% (both directions), users-eu=20ms, eu>us=... (one direction); repeat
    /// for more
    #[arg(long, value_name = "PATH")]
    wan: Vec<WanPath>,
    /// Open only every nth received packet
    #[arg(long, value_name = "N")]
    open_every: Option<u32>,
    /// Threads that drive users
    #[arg(long, value_name = "N")]
    threads: Option<u16>,
    /// How far this machine's clock is ahead of those of other generators in the same rooms (3ms, -20us): delays of
    /// what their users send are told only with it
    #[arg(long, value_name = "TIME", value_parser = signed_duration, allow_hyphen_values = true)]
    clock_offset: Option<i64>,
    /// The `sluice` to start, instead of the one beside this program
    #[arg(long, value_name = "FILE")]
    sluice: Option<PathBuf>,
    /// What the target is called in reports and comparisons
    #[arg(long, value_name = "NAME")]
    label: Option<String>,
}

#[derive(Debug, Args)]
struct OutputArgs {
    /// Folder for results (JSON) and report (HTML), named after scenario and time
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    out: PathBuf,
    /// Write no files
    #[arg(long, conflicts_with = "out")]
    no_files: bool,
}

/// Runs the program as the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = init(&cli.log) {
        return fail(&error);
    }
    let result = match cli.verb {
        Verb::Run { scenario, output } => run_scenario(&scenario, &output),
        Verb::Capacity { name, from, to, precision, flags, output } => {
            let range = CapacityOptions { from, to: to.max(from), precision: f64::from(precision) / 100.0 };
            find_capacity(&name, &range, &flags, &output)
        }
        Verb::Compare { results, html } => compare(&results, html.as_deref()),
        Verb::Report { results, html } => retell(&results, html.as_deref()),
        Verb::Scenarios { name } => list(name.as_deref()),
    };
    result.map_or_else(|error| fail(&error), ExitCode::from)
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::from(NOT_JUDGED)
}

fn init(filter: &str) -> anyhow::Result<()> {
    let filter = filter.parse::<tracing_subscriber::EnvFilter>().map_err(|error| anyhow::anyhow!("--log: {error}"))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // An error means that somebody chose one before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Ok(())
}

fn run_scenario(args: &ScenarioArgs, output: &OutputArgs) -> anyhow::Result<u8> {
    let file = ScenarioFile::open(&args.name)?;
    let scenario = file.with(&Overrides { users: args.users, ..args.flags.overrides() })?;
    let results = with_runtime(&scenario, async |stop| {
        run::run(&scenario, &args.flags.options(), stop, &mut Terminal::default()).await
    })??;
    print!("{}", report::text::summary(&results));
    output.write(&scenario.name, std::slice::from_ref(&results))?;
    Ok(results.verdict.exit_code())
}

fn find_capacity(
    name: &str,
    range: &CapacityOptions,
    flags: &ScenarioFlags,
    output: &OutputArgs,
) -> anyhow::Result<u8> {
    let file = ScenarioFile::open(name)?;
    let overrides = flags.overrides();
    let scenario = file.with(&overrides)?;
    let found = with_runtime(&scenario, async |stop| {
        capacity::search(&file, &overrides, range, &flags.options(), stop, &mut Terminal::default()).await
    })??;
    print!("{found}");
    output.write(&format!("{}-capacity", scenario.name), &found.steps)?;
    Ok(if found.carried.is_some() { 0 } else { 1 })
}

fn compare(paths: &[PathBuf], html: Option<&Path>) -> anyhow::Result<u8> {
    let results = paths.iter().map(report::load).collect::<Result<Vec<_>, _>>()?;
    print!("{}", report::text::compare(&results));
    write_html(html, &results)?;
    Ok(0)
}

fn retell(path: &Path, html: Option<&Path>) -> anyhow::Result<u8> {
    let results = report::load(path)?;
    print!("{}", report::text::summary(&results));
    write_html(html, std::slice::from_ref(&results))?;
    Ok(0)
}

fn list(name: Option<&str>) -> anyhow::Result<u8> {
    match name {
        Some(name) => print!("{}", ScenarioFile::open(name)?.with(&Overrides::default())?.to_toml()),
        None => {
            for name in shipped_names() {
                let scenario = ScenarioFile::open(name)?.with(&Overrides::default())?;
                println!("{name:<18} {}", scenario.description);
            }
        }
    }
    Ok(0)
}

fn write_html(path: Option<&Path>, results: &[Results]) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, report::html(results)).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    eprintln!("report: {}", path.display());
    Ok(())
}

/// Runs on a runtime of the scenario's size, with a token that the first Ctrl-C cancels. The second one ends the
/// program.
fn with_runtime<T>(scenario: &Scenario, work: impl AsyncFnOnce(CancellationToken) -> T) -> anyhow::Result<T> {
    let threads = usize::from(scenario.generator.threads.max(1));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    Ok(runtime.block_on(async {
        let stop = CancellationToken::new();
        let interrupted = stop.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                interrupted.cancel();
                Terminal::default().say("ending; Ctrl-C again to end without results");
            }
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(NOT_JUDGED.into());
            }
        });
        work(stop).await
    }))
}

impl ScenarioFlags {
    fn overrides(&self) -> Overrides {
        Overrides {
            users: None,
            rooms: self.rooms,
            duration: self.duration,
            ramp: self.ramp,
            seed: self.seed,
            targets: self.targets.clone(),
            dev: self.dev,
            nodes: self.nodes,
            workers: self.workers,
            video_bitrate: self.video_bitrate,
            audio_bitrate: self.audio_bitrate,
            wan: self.wan.clone(),
            open_every: self.open_every,
            threads: self.threads,
        }
    }

    fn options(&self) -> RunOptions {
        RunOptions { label: self.label.clone(), sluice: self.sluice.clone(), clock_ahead_ns: self.clock_offset }
    }
}

/// Nanoseconds.
fn signed_duration(text: &str) -> Result<i64, String> {
    let (sign, length) = text.strip_prefix('-').map_or((1, text), |length| (-1, length));
    let duration = humantime::parse_duration(length).map_err(|error| error.to_string())?;
    i64::try_from(duration.as_nanos()).map(|ns| sign * ns).map_err(|_| "too long".to_owned())
}

impl OutputArgs {
    /// Writes the last of several results, and a page with all of them.
    fn write(&self, name: &str, results: &[Results]) -> anyhow::Result<()> {
        let Some(last) = results.last().filter(|_| !self.no_files) else { return Ok(()) };
        std::fs::create_dir_all(&self.out).map_err(|error| anyhow::anyhow!("{}: {error}", self.out.display()))?;
        let started = std::time::UNIX_EPOCH + Duration::from_millis(last.started_unix_ms);
        let time = humantime::format_rfc3339_seconds(started).to_string().replace([':', '-'], "");
        let json = self.out.join(format!("{name}-{time}.json"));
        report::save(&json, last)?;
        eprintln!("results: {}", json.display());
        write_html(Some(&json.with_extension("html")), results)
    }
}
