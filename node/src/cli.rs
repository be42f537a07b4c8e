//! The command line: `sluice node`, `sluice dev`, `sluice config`, `sluice token`, `sluice ca`.
//!
//! Exit codes: 0 when it ended as asked, 1 when it failed, 2 when it was asked for something that makes no sense.

mod token;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use sluice_proto::ids::NodeId;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::ca;
use crate::config::{NodeConfig, Setting, Sources, sample, sections};
use crate::dev::{DEFAULT_BASE_PORT, DevError, DevMesh, DevOptions, lan_address};
use crate::node::{Node, NodeEnd, install_logging, raise_open_files};

/// More nodes than this do not fit below port 65536, nor on a machine.
const MAX_DEV_NODES: i64 = 64;

/// The highest incarnation that a node may be told to have, as the setting says.
const MAX_INCARNATION: u64 = 1 << 62;

/// The setting that `sluice dev` has another default for, and its variable.
const LEVEL: &str = "telemetry.level";
const LEVEL_ENV: &str = "SLUICE_TELEMETRY_LEVEL";

/// Runs the program as the command line says.
pub fn main() -> ExitCode {
    let matches = command().get_matches();
    let result = match matches.subcommand() {
        Some(("node", args)) => run_node(args),
        Some(("dev", args)) => run_dev(args),
        Some(("config", args)) => run_config(args),
        Some(("token", args)) => token::run(args),
        Some(("ca", args)) => run_ca(args),
        _ => unreachable!("clap demands one of the subcommands"),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            eprintln!("error: {message}");
            ExitCode::from(code)
        }
    }
}

/// Why the program ends without success.
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn usage(error: impl std::fmt::Display) -> Self {
        Self { code: 2, message: error.to_string() }
    }

    fn failed(error: impl std::fmt::Display) -> Self {
        Self { code: 1, message: error.to_string() }
    }
}

impl From<DevError> for Failure {
    fn from(error: DevError) -> Self {
        match error {
            DevError::Wan(..) => Self::usage(error),
            error => Self::failed(error),
        }
    }
}

fn command() -> Command {
    let days = || Arg::new("days").long("days").value_name("DAYS").value_parser(value_parser!(u32).range(1..=36_500));
    let dir = || Arg::new("dir").long("dir").value_name("DIR").value_parser(value_parser!(PathBuf)).default_value(".");
    let ca_init = Command::new("init")
        .about("Make the cluster's CA: ca.pem and ca.key")
        .arg(dir().help("Where to write them"))
        .arg(Arg::new("cluster").long("cluster").value_name("NAME").default_value("sluice").help("Name of the cluster"))
        .arg(days().default_value("3650").help("How long it is valid"));
    let ca_issue = Command::new("issue")
        .about("Issue a node's certificate: NODE.pem and NODE.key")
        .arg(dir().help("Where the CA is and the certificate is written"))
        .arg(
            Arg::new("node")
                .long("node")
                .value_name("ID")
                .required(true)
                .value_parser(value_parser!(NodeId))
                .help("The node's id"),
        )
        .arg(
            Arg::new("address")
                .long("address")
                .value_name("IP")
                .action(ArgAction::Append)
                .value_parser(value_parser!(IpAddr))
                .help("An IP address to name in the certificate besides, for tools that check it"),
        )
        .arg(days().default_value("825").help("How long it is valid"));
    let ca = Command::new("ca").about("Make the cluster's CA and nodes' certificates").subcommand_required(true);
    Command::new("sluice")
        .about("A user-sharded SFU mesh: each user connects to the nearest node, the nodes carry media to each other")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(Command::new("node").about("Run a node"), |_| true))
        .subcommand(dev_command())
        .subcommand(config_command())
        .subcommand(token::command())
        .subcommand(ca.subcommands([ca_init, ca_issue]))
}

fn dev_command() -> Command {
    let dev = Command::new("dev")
        .about("Run a whole mesh in one process on this machine, to try it out")
        .arg(
            Arg::new("nodes")
                .long("nodes")
                .value_name("N")
                .default_value("3")
                .value_parser(value_parser!(u16).range(1..=MAX_DEV_NODES))
                .help("Nodes, a region each"),
        )
        .arg(
            Arg::new("base-port")
                .long("base-port")
                .value_name("PORT")
                .value_parser(value_parser!(u16))
                .help(format!(
                    "Users' port of the first node, {DEFAULT_BASE_PORT} unless given; those of the others follow in steps of 100"
                )),
        )
        .arg(
            Arg::new("wan")
                .long("wan")
                .value_name("PATH")
                .action(ArgAction::Append)
                .help(
                    "Make the path between two regions a long one: eu-us=80ms,1% delays by 80 ms each way and loses 1% (eu>us=...: one \
                     direction only). Also jitter=10ms, burst=1%/5, reorder=1%/20ms, duplicate=0.1%, rate=5Mbps, queue=100ms, blackout. \
                     Can be given several times",
                ),
        );
    with_setting_flags(dev, |setting| setting.key == "workers" || setting.key.starts_with("telemetry."))
}

fn config_command() -> Command {
    Command::new("config")
        .about("The node's configuration")
        .subcommand_required(true)
        .subcommand(Command::new("sample").about("Print a commented sample file with every setting"))
        .subcommand(with_settings(Command::new("check").about("Check the settings that a node would run with"), |_| {
            true
        }))
}

/// Adds the configuration file and a flag for each wanted setting.
fn with_settings(command: Command, wanted: impl Fn(&Setting) -> bool) -> Command {
    with_setting_flags(command.arg(config_file()), wanted)
}

fn config_file() -> Arg {
    Arg::new("config")
        .long("config")
        .short('c')
        .value_name("FILE")
        .env("SLUICE_CONFIG")
        .value_parser(value_parser!(PathBuf))
        .help("TOML file with settings")
}

fn with_setting_flags(mut command: Command, wanted: impl Fn(&Setting) -> bool) -> Command {
    for section in sections() {
        for setting in section.settings.iter().filter(|setting| wanted(setting)) {
            command = command.arg(flag(setting).help_heading(match section.name {
                "" => "Settings",
                name => name,
            }));
        }
    }
    command
}

fn flag(setting: &'static Setting) -> Arg {
    let doc: Vec<_> = setting.doc.iter().map(|line| line.trim()).collect();
    let arg = Arg::new(setting.key).long(setting.flag.as_str()).value_name("VALUE").help(doc.join(" "));
    match (setting.is_switch, setting.is_list) {
        (true, _) => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        (false, true) => arg.num_args(1).allow_hyphen_values(true).action(ArgAction::Append),
        (false, false) => arg.num_args(1).allow_hyphen_values(true),
    }
}

/// The settings out of file, environment and flags.
fn load(args: &ArgMatches) -> Result<NodeConfig, Failure> {
    let file = args.try_get_one::<PathBuf>("config").ok().flatten().cloned();
    let all = sections().iter().flat_map(|section| &section.settings);
    let flags = all.filter_map(|setting| {
        let values: Vec<_> = args.try_get_many::<String>(setting.key).ok().flatten()?.cloned().collect();
        // Several are the items of a list.
        Some((setting.key, values.join(",")))
    });
    let sources = Sources { file, env: std::env::vars_os().collect(), flags: flags.collect() };
    NodeConfig::load(&sources).map_err(Failure::usage)
}

fn run_config(args: &ArgMatches) -> Result<(), Failure> {
    match args.subcommand() {
        Some(("sample", _)) => print!("{}", sample()),
        Some(("check", args)) => {
            let config = load(args)?;
            println!("ok: node {} in region {}, users at {}", config.id, config.region, config.users_url());
        }
        _ => unreachable!("clap demands one of the subcommands"),
    }
    Ok(())
}

fn run_ca(args: &ArgMatches) -> Result<(), Failure> {
    let (verb, args) = args.subcommand().expect("clap demands one of the subcommands");
    let dir = args.get_one::<PathBuf>("dir").expect("has a default");
    let days = *args.get_one::<u32>("days").expect("has a default");
    let written = match verb {
        "init" => ca::init(dir, args.get_one::<String>("cluster").expect("has a default"), days),
        _ => {
            let addresses: Vec<IpAddr> = args.get_many("address").into_iter().flatten().copied().collect();
            ca::issue(dir, args.get_one::<NodeId>("node").expect("is required"), &addresses, days)
        }
    };
    for path in written.map_err(Failure::failed)? {
        println!("wrote {}", path.display());
    }
    Ok(())
}

fn run_node(args: &ArgMatches) -> Result<(), Failure> {
    runtime()?.block_on(async {
        // Before anything else: until then a hangup ends the process.
        let mut hangup = signal(SignalKind::hangup()).map_err(Failure::failed)?;
        let mut signals = Signals::new()?;
        let mut config = load(args)?;
        install_logging(&config);
        raise_open_files();
        while let Some(incarnation) = run_life(config.clone(), &mut signals, &mut hangup).await? {
            if incarnation >= MAX_INCARNATION {
                return Err(Failure::failed(format!(
                    "others remember incarnation {incarnation} of this node: there is none above it"
                )));
            }
            config.incarnation = incarnation + 1;
            tracing::warn!(
                incarnation = config.incarnation,
                "the node starts again, newer than what the others remember"
            );
        }
        Ok(())
    })
}

/// Runs a node until it is asked to end, or has to.
async fn run_life(config: NodeConfig, signals: &mut Signals, hangup: &mut Signal) -> Result<Option<u64>, Failure> {
    let node = tokio::select! {
        node = Node::start(config) => node.map_err(Failure::failed)?,
        () = signals.next() => return Ok(None),
    };
    let mut ending = std::pin::pin!(node.ending());
    let end = loop {
        tokio::select! {
            () = signals.next() => break None,
            end = &mut ending => break Some(end),
            _ = hangup.recv() => node.reload(),
        }
    };
    if let Some(NodeEnd::Lost(part)) = end {
        tracing::error!(part, "has ended, without which the node cannot go on");
    }
    signals.end_with(node.shutdown()).await?;
    match end {
        None => Ok(None),
        Some(NodeEnd::Superseded { incarnation }) => Ok(Some(incarnation)),
        Some(NodeEnd::Lost(part)) => {
            Err(Failure::failed(format!("{part} has ended, without which the node cannot go on")))
        }
    }
}

fn run_dev(args: &ArgMatches) -> Result<(), Failure> {
    let mut config = load(args)?;
    // The table is what a developer wants to see, unless they say otherwise.
    if args.get_one::<String>(LEVEL).is_none() && std::env::var_os(LEVEL_ENV).is_none() {
        config.telemetry.level = "warn".parse().expect("a valid filter");
    }
    install_logging(&config);
    raise_open_files();
    let specs = args.get_many::<String>("wan").into_iter().flatten();
    let wan = specs.map(|spec| spec.parse().map_err(|error| DevError::Wan(spec.clone(), error)));
    let options = DevOptions {
        nodes: *args.get_one("nodes").expect("has a default"),
        workers: config.workers,
        base_port: args.get_one("base-port").copied().unwrap_or(DEFAULT_BASE_PORT),
        wan: wan.collect::<Result<_, _>>()?,
        lan: lan_address(),
        telemetry: config.telemetry,
    };
    runtime()?.block_on(async {
        let mut signals = Signals::new()?;
        let mesh = tokio::select! {
            mesh = DevMesh::start(&options) => mesh?,
            () = signals.next() => return Ok(()),
        };
        print!("{}", mesh.table());
        if options.lan.is_none() {
            println!(
                "This machine has no address but loopback, to which Firefox sends no media: take another browser."
            );
        }
        println!("Ctrl-C ends it.");
        let end = tokio::select! {
            () = signals.next() => None,
            (node, end) = mesh.ending() => Some(Failure::failed(format!("node {node} cannot go on: {end:?}"))),
        };
        signals.end_with(mesh.shutdown()).await?;
        end.map_or(Ok(()), Err)
    })
}

/// For signals and what exports traces; nodes have threads of their own.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().map_err(Failure::failed)
}

/// SIGINT and SIGTERM: the first asks to end, the second insists.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(Failure::failed);
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    async fn end_with(&mut self, ending: impl Future<Output = ()>) -> Result<(), Failure> {
        tokio::select! {
            () = ending => Ok(()),
            () = self.next() => Err(Failure::failed("stopped at the second signal")),
        }
    }
}
