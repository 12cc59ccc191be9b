//! What a run comes to, and how long it may take.

use tuning::host::Disturbance;

use super::*;

const LIMITS: Limits =
    Limits { blocked_ms: 100.0, p99_ms: 50.0, late_ms: 5.0, disturbed_percent: 5.0 };

fn settings() -> RigSettings {
    let (burst, hold, blocked_max, p99_max) = Default::default();
    RigSettings {
        routers: 20,
        entries: 20,
        frame_mappings: 10,
        burst,
        hold,
        shards: 1,
        host_cpus: Vec::new(),
        choir_cpus: Vec::new(),
        blocked_max,
        p99_max,
        late_ms_max: 5.0,
        disturbed_percent_max: 5.0,
        ipv6: false,
        data: PathBuf::new(),
    }
}

fn judge(change: impl FnOnce(&mut Outcome), moved: &[&str], late_ms: f64) -> Finding {
    let mut outcome = Outcome::default();
    change(&mut outcome);
    let moved: Vec<(String, i64)> = moved.iter().map(|name| ((*name).to_owned(), 1)).collect();
    let honesty = Honesty::new(late_ms, Some(Disturbance::default()));
    LIMITS.judge(&outcome, &moved, &honesty)
}

#[test]
fn every_symptom_has_its_sign() {
    let shows = |symptom: Symptom| Finding::Symptoms([symptom].into());
    assert_eq!(judge(|_| {}, &[], 1.0), Finding::Clean);
    let overflow = ["TcpExt.ListenOverflows"];
    assert_eq!(judge(|_| {}, &overflow, 1.0), shows(Symptom::ListenQueueFull));
    assert_eq!(judge(|_| {}, &["TcpExt.PruneCalled"], 1.0), shows(Symptom::ReceiveSqueezed));
    let failed = judge(|outcome| outcome.connect_failures = 1, &[], 1.0);
    assert_eq!(failed, shows(Symptom::ConnectFailed));
    let broken = judge(|outcome| outcome.broken = 1, &[], 1.0);
    assert_eq!(broken, shows(Symptom::ConnectionLost));
    let blocked = judge(|outcome| outcome.stuck_us_max = 100_001, &[], 1.0);
    assert_eq!(blocked, shows(Symptom::RouterBlocked));
    let slow = judge(|outcome| outcome.durable.record(60_000), &[], 1.0);
    assert_eq!(slow, shows(Symptom::TooSlow));
    let unsent = judge(|outcome| outcome.frames_open = 1, &[], 1.0);
    assert_eq!(unsent, shows(Symptom::TooSlow));
}

#[test]
fn no_run_is_given_up_before_a_symptom_can_show() {
    let limit = |p99_ms, blocked_ms| {
        let settings = RigSettings {
            p99_max: Duration::from_millis(p99_ms),
            blocked_max: Duration::from_millis(blocked_ms),
            ..settings()
        };
        settings.limit(Duration::from_millis(200)).as_millis()
    };
    assert_eq!(limit(0, 100), 5_200);
    assert_eq!(limit(10_000, 100), 40_200);
    assert_eq!(limit(0, 60_000), 120_200);
}

#[test]
fn a_late_generator_voids_whatever_else_shows() {
    let finding = judge(|outcome| outcome.broken = 1, &["TcpExt.PruneCalled"], 5.1);
    assert_eq!(finding, Finding::Void(Label::GeneratorBound));
}

#[test]
fn work_of_others_voids_and_is_blamed_before_the_generator_that_it_makes_late() {
    let disturbed = |foreign_percent, stolen_percent| {
        let disturbance = Disturbance { foreign_percent, stolen_percent };
        let honesty = Honesty::new(50.0, Some(disturbance));
        LIMITS.judge(&Outcome::default(), &[], &honesty)
    };
    assert_eq!(disturbed(6.0, 0.0), Finding::Void(Label::ForeignWork));
    assert_eq!(disturbed(1.0, 5.0), Finding::Void(Label::Stolen));
    assert_eq!(disturbed(1.0, 1.0), Finding::Void(Label::GeneratorBound));
}
