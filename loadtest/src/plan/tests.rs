use proptest::prelude::*;

use super::*;
use crate::scenario::{FaultAction, Overrides, ScenarioFile};

fn plan(text: &str) -> Arc<Plan> {
    let file = ScenarioFile::parse("my.toml", text).unwrap();
    Arc::new(Plan::new(&file.with(&Overrides::default()).unwrap()))
}

fn shipped(name: &str, overrides: &Overrides) -> Arc<Plan> {
    Arc::new(Plan::new(&ScenarioFile::open(name).unwrap().with(overrides).unwrap()))
}

fn joins(plan: &Arc<Plan>) -> Vec<(Duration, usize)> {
    let join = |step: Step| if let Action::Join(user) = step.action { Some((step.at, user)) } else { None };
    plan.timeline().filter_map(join).collect()
}

#[test]
fn joins_are_spread_evenly_over_the_ramp() {
    let plan = shipped("meeting", &Overrides { ramp: Some(Duration::from_secs(15)), ..Default::default() });
    let expected = (0..150).map(|user| (Duration::from_millis(100) * user as u32, user)).collect::<Vec<_>>();
    assert_eq!(joins(&plan), expected);
    let at_once = shipped("meeting", &Overrides { ramp: Some(Duration::ZERO), ..Default::default() });
    assert!(joins(&at_once).iter().all(|(at, _)| at.is_zero()));
}

#[test]
fn rooms_fill_at_the_same_pace() {
    let plan = shipped("meeting", &Overrides::default());
    for (round, users) in plan.users.chunks(25).enumerate() {
        assert!(users.iter().all(|user| user.peer == format!("participant-{}", round + 1)), "round {round}");
    }
    // A small room and a large one.
    let plan = plan_of_two_sizes();
    let large = |users: &[PlannedUser]| users.iter().filter(|user| user.room == "large-1").count();
    assert_eq!((large(&plan.users[..55]), large(&plan.users)), (50, 100));
}

fn plan_of_two_sizes() -> Arc<Plan> {
    plan(
        "[[rooms]]\nname = \"small\"\n[[rooms.users]]\ncount = 10\naudio = true\n[[rooms]]\nname = \"large\"\n[[rooms.users]]\ncount = 100\naudio = true\n",
    )
}

#[test]
fn users_connect_to_their_regions_in_turn() {
    let plan = shipped("global", &Overrides::default());
    let nodes_of = |room: &str| -> Vec<usize> {
        plan.users.iter().filter(|user| user.room == room).map(|user| user.node).collect()
    };
    assert_eq!(nodes_of("global-1"), [0, 1, 2, 0, 1, 2]);
    assert_eq!(nodes_of("global-2"), [1, 2, 0, 1, 2, 0]);
    let names: Vec<&str> = plan.groups.iter().map(|group| group.node.as_str()).collect();
    assert_eq!(names, ["eu-1", "us-1", "ap-1"]);
    for group in 0..3 {
        assert_eq!(plan.users.iter().filter(|user| user.group == group).count(), 20);
    }
}

#[test]
fn the_nodes_of_a_region_take_turns() {
    let node = |region| format!("[[target.nodes]]\nregion = \"{region}\"\nurl = \"ws://127.0.0.1:1\"\n");
    let nodes = [node("eu"), node("us"), node("eu")].concat();
    let plan = plan(&format!("{nodes}[[rooms]]\n[[rooms.users]]\ncount = 8\naudio = true\n"));
    let nodes: Vec<usize> = plan.users.iter().map(|user| user.node).collect();
    assert_eq!(nodes, [0, 1, 2, 1, 0, 1, 2, 1]);
}

#[test]
fn groups_are_kinds_by_node() {
    let plan = shipped("webinar", &Overrides { nodes: Some(2), ..Default::default() });
    let groups: Vec<_> = plan.groups.iter().map(|group| (group.users.as_str(), group.node.as_str())).collect();
    assert_eq!(groups, [("presenter", "eu-1"), ("audience", "eu-1"), ("audience", "us-1")]);
}

#[test]
fn faults_and_paths_come_in_their_time() {
    let plan = shipped("failover", &Overrides::default());
    let fault =
        |step: Step| if let Action::Fault(action) = step.action { Some((step.at.as_secs(), action)) } else { None };
    let faults: Vec<_> = plan.timeline().filter_map(fault).collect();
    let expected = [
        (20, FaultAction::Stop("ap".into())),
        (30, FaultAction::Start("ap".into())),
        (45, FaultAction::Cut("eu".into(), "us".into())),
        (55, FaultAction::Heal("eu".into(), "us".into())),
    ];
    assert_eq!(faults, expected);
}

#[test]
fn the_last_word_about_a_leg_holds() {
    let plan = plan(
        "[target.dev]\nnodes = 3\n[[rooms]]\n[[rooms.users]]\ncount = 2\naudio = true\n\
         [[wan]]\nbetween = [\"nodes\", \"nodes\"]\npath = \"80ms\"\n\
         [[wan]]\nfrom = \"eu\"\nto = \"us\"\npath = \"10ms\"\nthen = [{ at = \"20s\", path = \"20ms\" }]\n\
         [[wan]]\nbetween = [\"users:us\", \"nodes\"]\npath = \"5ms\"\n\
         [[wan]]\nfrom = \"ap\"\nto = \"users\"\npath = \"6ms\"\n",
    );
    let said: Vec<(Leg, Vec<u128>)> = plan
        .paths
        .iter()
        .map(|(leg, steps)| (*leg, steps.iter().map(|step| step.config.delay.as_millis()).collect()))
        .collect();
    let leg = |from, to| Leg::Nodes { from, to };
    let expected = [
        (leg(0, 1), vec![10, 20]),
        (leg(0, 2), vec![80]),
        (leg(1, 0), vec![80]),
        (leg(1, 2), vec![80]),
        (leg(2, 0), vec![80]),
        (leg(2, 1), vec![80]),
        (Leg::Up(1), vec![5]),
        (Leg::Down(1), vec![5]),
        (Leg::Down(2), vec![6]),
    ];
    assert_eq!(said, expected);
    let mut timeline = plan.timeline();
    let at_start = std::iter::from_fn(|| timeline.poll(Duration::ZERO)).collect::<Vec<_>>();
    assert!(at_start[..9].iter().all(|step| matches!(step.action, Action::Path { .. })), "{at_start:?}");
    assert_eq!(at_start[9].action, Action::Join(0));
}

#[test]
fn those_who_come_and_go_do_so_for_the_times_that_were_asked() {
    let overrides = Overrides { duration: Some(Duration::from_secs(2000)), ..Default::default() };
    let plan = shipped("churn", &overrides);
    let mut since = vec![Duration::ZERO; plan.users.len()];
    let (mut stays, mut aways) = (Vec::new(), Vec::new());
    for step in plan.timeline() {
        match step.action {
            Action::Leave(user) => stays.push(step.at - std::mem::replace(&mut since[user], step.at)),
            Action::Join(user) if !since[user].is_zero() => {
                aways.push(step.at - std::mem::replace(&mut since[user], step.at));
            }
            Action::Join(user) => since[user] = step.at,
            _ => {}
        }
    }
    // 100 users in 2,000 s: some 8,000 of each.
    let mean = |times: &[Duration]| times.iter().sum::<Duration>().as_secs_f64() / times.len() as f64;
    assert!(stays.len() > 7000 && aways.len() > 7000, "{} stays", stays.len());
    assert!((mean(&stays) - 20.0).abs() < 1.0, "mean stay {}", mean(&stays));
    assert!((mean(&aways) - 5.0).abs() < 0.3, "mean away {}", mean(&aways));
    let hosts_leave =
        plan.timeline().any(|step| matches!(step.action, Action::Leave(user) if plan.users[user].kind.name == "host"));
    assert!(!hosts_leave);
}

#[test]
fn another_seed_is_another_plan_and_the_same_seed_is_the_same() {
    let of = |seed| {
        let plan = shipped("churn", &Overrides { seed: Some(seed), ..Default::default() });
        let seeds: Vec<u64> = plan.users.iter().map(|user| user.seed).collect();
        (seeds, plan.timeline().collect::<Vec<_>>())
    };
    assert_eq!(of(7), of(7));
    let (one, other) = (of(7), of(8));
    assert_ne!(one.0, other.0);
    assert_ne!(one.1, other.1);
}

proptest! {
    #[test]
    fn everybody_joins_before_they_leave_and_all_is_counted(
        seed in 0..1000u64,
        rooms in 1..5u32,
        sizes in (1..6u32, 0..6u32),
        times in (0..20u64, 1..60u64, 1..10u64, 0..10u64),
        nodes in 1..5u16,
    ) {
        let (ramp, duration, stay, away) = times;
        let guests = match sizes.1 {
            0 => String::new(),
            count => format!(
                "[[rooms.users]]\nname = \"guest\"\ncount = {count}\naudio = true\nchurn = {{ stay = \"{stay}s\", away = \"{away}s\" }}\n"
            ),
        };
        let plan = plan(&format!(
            "seed = {seed}\nramp = \"{ramp}s\"\nduration = \"{duration}s\"\n[target.dev]\nnodes = {nodes}\n\
             [[rooms]]\ncount = {rooms}\n[[rooms.users]]\nname = \"host\"\ncount = {}\naudio = true\n{guests}",
            sizes.0,
        ));
        let users = (rooms * (sizes.0 + sizes.1)) as usize;
        prop_assert_eq!(plan.users.len(), users);
        let peers: std::collections::HashSet<_> = plan.users.iter().map(|user| (&user.room, &user.peer)).collect();
        prop_assert_eq!(peers.len(), users, "peers are unique in their rooms");
        let seeds: std::collections::HashSet<_> = plan.users.iter().map(|user| user.seed).collect();
        prop_assert_eq!(seeds.len(), users, "seeds differ");

        let mut inside = vec![false; users];
        let mut came = vec![false; users];
        let mut now = Duration::ZERO;
        let mut timeline = plan.timeline();
        while let Some(next) = timeline.next_at() {
            let step = timeline.next().unwrap();
            prop_assert_eq!(step.at, next);
            prop_assert!(step.at >= now && step.at < plan.end);
            now = step.at;
            match step.action {
                Action::Join(user) => {
                    prop_assert!(!std::mem::replace(&mut inside[user], true));
                    prop_assert!(came[user] || step.at == plan.users[user].joins_at);
                    came[user] = true;
                }
                Action::Leave(user) => prop_assert!(std::mem::replace(&mut inside[user], false)),
                other => prop_assert!(false, "{other:?}"),
            }
            prop_assert_eq!(timeline.users_wanted() as usize, inside.iter().filter(|inside| **inside).count());
        }
        prop_assert!(came.iter().all(|came| *came));
        for group in 0..plan.groups.len() {
            prop_assert!(plan.users.iter().any(|user| user.group == group), "group {} has nobody", group);
        }
    }
}
