//! Checkpoints in a real S3 server: killed jobs go on, damage is found, mistakes are one error, a server that is away is waited for.

use std::path::Path;
use std::process::Command;

use tidemill_tests::proxy::{Proxy, Way};
use tidemill_tests::s3::{BUCKET, S3};
use tidemill_tests::{Ended, Running, binary, folder, wait_for};

use crate::recovery::{Environment, PARTITIONS, check_on, job, n_published, shown, write_source};

/// How often each job is killed, unless it is said otherwise.
const KILLS: u64 = 30;

const TOTALS: &str = "
[[step]]
name = 'totals'
from = 'left'
aggregate = { by = ['user'], select = { rows = 'count(*)', total = 'sum(n)' }, running = true }
";

/// A job whose checkpoint is a folder of the bucket, and its folder.
fn place(store_folder: &str) -> tempfile::TempDir {
    let place = folder();
    write_source(place.path(), "left", 1);
    let url = format!("checkpoint = 's3://{BUCKET}/{store_folder}'");
    let text = job(2, TOTALS, &["totals"]).replace("checkpoint = 'checkpoint'", &url);
    std::fs::write(place.path().join("job.toml"), text).expect("a new file");
    place
}

fn start(place: &Path, environment: &Environment, arguments: &[&str]) -> Running {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(place).envs(environment.iter().cloned());
    Running::spawn(command)
}

#[track_caller]
fn run(place: &Path, environment: &Environment, arguments: &[&str]) -> Ended {
    let mut running = start(place, environment, arguments);
    running.close_stdin();
    let ended = running.wait();
    for secret in S3::shared().map(S3::secrets).into_iter().flatten() {
        assert!(
            !ended.stderr.contains(secret) && !ended.stdout.contains(secret),
            "a secret is shown: {}",
            ended.stderr
        );
    }
    ended
}

/// Kills a job in one number of partitions after the other.
#[track_caller]
fn check_each(name: &str, steps: &str, sinks: &[&str]) {
    let Some(s3) = S3::shared() else { return };
    for partitions in PARTITIONS {
        check_on(Some(s3), KILLS / PARTITIONS.len() as u64, name, partitions, steps, sinks);
    }
}

#[test]
fn running_totals_go_on_from_s3_however_often_they_are_killed() {
    let steps = format!("{TOTALS}\n[[step]]\nname = 'firsts'\nfrom = 'left'\ndedup = {{ by = ['user', 'n'] }}\n");
    check_each("keyed", &steps, &["totals", "firsts"]);
}

#[test]
fn windows_go_on_from_s3_however_often_they_are_killed() {
    let steps = "
[[step]]
name = 'sliding'
from = 'left'
aggregate = { by = ['user'], select = { rows = 'count(*)', most = 'max(n)' }, window = { time = 'at', size = '4s', slide = '1s' } }
";
    check_each("windowed", steps, &["sliding"]);
}

#[test]
fn filtered_rows_and_joins_go_on_from_s3_however_often_they_are_killed() {
    let Some(s3) = S3::shared() else { return };
    let steps = "
[[step]]
name = 'large'
from = 'left'
filter = 'n > 400'
";
    check_on(Some(s3), KILLS / 2, "stateless", 1, steps, &["large"]);
    let steps = "
[[step]]
name = 'pairs'
from = 'left'
join = { with = 'right', on = ['user'], within = { before = '100ms', after = '100ms' }, time = 'at', type = 'left', prefix = 'r_' }
";
    check_each("joined", steps, &["pairs"]);
}

#[test]
fn a_checkpoint_in_s3_can_be_looked_into_and_damage_in_it_is_named() {
    let Some(s3) = S3::shared() else { return };
    let environment = s3.environment(&s3.address());
    let place = place("looked/into");
    let ended = run(place.path(), &environment, &["run", "job.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let before = shown(place.path());
    let url = format!("s3://{BUCKET}/looked/into");
    let inspected = run(place.path(), &environment, &["checkpoint", "inspect", &url]);
    assert_eq!(inspected.code(), 0, "{}", inspected.stderr);
    assert!(inspected.stdout.contains("step     totals, 2 partitions: "), "{}", inspected.stdout);
    assert!(inspected.stdout.contains("\nlease    let go by process "), "{}", inspected.stdout);
    let verified = run(place.path(), &environment, &["checkpoint", "verify", &url]);
    assert!(verified.code() == 0 && verified.stdout.ends_with("damage   none\n"), "{}", verified.stdout);
    // Nothing is left of what was merged, nor of old batches.
    let commits = s3.list("looked/into/commits");
    assert_eq!(commits.len(), 3, "{commits:?}");
    // A job goes on behind the damage of its last batch.
    s3.put(commits.last().expect("three"), b"tidemill-checkpoint commit 1 5 0000000000000000\nhello");
    let verified = run(place.path(), &environment, &["checkpoint", "verify", &url]);
    assert!(
        verified.code() == 1 && verified.stdout.contains("is damaged: its bytes are not those"),
        "{}",
        verified.stdout
    );
    let ended = run(place.path(), &environment, &["run", "job.toml"]);
    assert_eq!((ended.code(), shown(place.path()) == before), (0, true), "{}", ended.stderr);
    assert!(ended.stderr.contains("the job goes on from the one before it"), "{}", ended.stderr);
    // State that is gone from the runs of all batches that are kept.
    for part in s3.list("looked/into/state") {
        s3.delete(&part);
    }
    let ended = run(place.path(), &environment, &["run", "job.toml"]);
    assert!(ended.code() == 1 && ended.stderr.contains("is missing"), "{}", ended.stderr);
    let none = run(place.path(), &environment, &["checkpoint", "verify", &format!("s3://{BUCKET}/nothing")]);
    let expected = format!("error: there is no checkpoint in `s3://{BUCKET}/nothing`\n");
    assert!(none.code() == 1 && none.stderr.starts_with(&expected), "{}", none.stderr);
    let wrong = run(place.path(), &environment, &["checkpoint", "inspect", "ftp://host/a"]);
    assert!(wrong.code() == 2 && wrong.stderr.contains("`ftp://host/a` is a URL of kind `ftp:`"), "{}", wrong.stderr);
}

#[track_caller]
fn check_refused(environment: &Environment, place: &Path, expected: &str) {
    let ended = run(place, environment, &["run", "job.toml"]);
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    assert!(ended.stderr.starts_with("error: the job cannot go on from its checkpoint\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains(expected), "{}", ended.stderr);
}

#[test]
fn what_no_waiting_mends_is_one_error() {
    let Some(s3) = S3::shared() else { return };
    let good = s3.environment(&s3.address());
    let with = |name: &'static str, value: &str| {
        let mut environment = good.clone();
        environment.push((name, value.to_owned()));
        environment
    };
    let place = place("refused");
    check_refused(
        &with("AWS_SECRET_ACCESS_KEY", "wrong"),
        place.path(),
        "could not be opened\n  caused by: the store answers with status 403: SignatureDoesNotMatch",
    );
    check_refused(
        &with("AWS_ACCESS_KEY_ID", "nobody"),
        place.path(),
        "the store answers with status 403: InvalidAccessKeyId",
    );
    check_refused(
        &s3.environment_of_reader(),
        place.path(),
        "`lease` could not be written\n  caused by: the store answers with status 403: AccessDenied",
    );
    check_refused(&with("AWS_ALLOW_HTTP", "false"), place.path(), "is not encrypted: write `allow-http = true`");
    // Somebody else's objects stay as they are.
    s3.put("refused/letter.txt", b"dear");
    check_refused(
        &good,
        place.path(),
        &format!("`s3://{BUCKET}/refused` is no checkpoint, and not empty: `letter.txt` is in it"),
    );
    assert_eq!(s3.list("refused"), ["refused/letter.txt"]);
    let text = std::fs::read_to_string(place.path().join("job.toml")).expect("the job");
    std::fs::write(place.path().join("job.toml"), text.replace(&format!("s3://{BUCKET}/"), "s3://no-such-bucket/"))
        .expect("the job");
    check_refused(&good, place.path(), "there is no such bucket");
}

#[test]
fn the_job_file_may_say_how_the_store_is_reached() {
    let Some(s3) = S3::shared() else { return };
    let place = place("options");
    let options = "[job.checkpoint-options]\nendpoint = 'http://${ADDRESS}'\nallow-http = true\nregion = 'us-east-1'\n\
                   access-key-id = '${KEY}'\nsecret-access-key = '${SECRET}'\nconnect-timeout = '2s'\n\n[[source]]";
    let text = std::fs::read_to_string(place.path().join("job.toml")).expect("the job");
    std::fs::write(place.path().join("job.toml"), text.replacen("[[source]]", options, 1)).expect("the job");
    let of_store = s3.environment(&s3.address());
    let value = |name: &str| of_store.iter().find(|(of, _)| *of == name).expect("it is there").1.clone();
    let environment = vec![
        ("ADDRESS", s3.address()),
        ("KEY", value("AWS_ACCESS_KEY_ID")),
        ("SECRET", value("AWS_SECRET_ACCESS_KEY")),
        // Of another store and another key: none of it is used.
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1".to_owned()),
        ("AWS_SESSION_TOKEN", "of-another-key".to_owned()),
    ];
    let ended = run(place.path(), &environment, &["run", "job.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(s3.list("options").contains(&"options/job".to_owned()));
    let wrong = run(place.path(), &environment, &["check", "job.toml", "--set", "job.checkpoint-options.timout=5s"]);
    assert!(wrong.code() == 2 && wrong.stderr.contains("Did you mean `timeout`?"), "{}", wrong.stderr);
}

/// The rows that a job without faults shows.
fn expected() -> std::collections::BTreeMap<String, String> {
    let place = folder();
    write_source(place.path(), "left", 1);
    std::fs::write(place.path().join("job.toml"), job(2, TOTALS, &["totals"])).expect("a new file");
    let ended = tidemill_tests::run(place.path(), &["run", "job.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    shown(place.path())
}

/// A server that answers 503, or not at all, for so long that the lease is over: at the start, and in the midst of it.
#[test]
fn a_server_that_is_away_is_waited_for_and_nothing_is_lost() {
    let Some(s3) = S3::shared() else { return };
    for (way, said) in
        [(Way::Refused, "the store answers with status 503: SlowDown"), (Way::Closed, "the store does not answer")]
    {
        let proxy = Proxy::to(&s3.address(), way);
        let place = place(&format!("away/{way:?}"));
        let text = std::fs::read_to_string(place.path().join("job.toml")).expect("the job");
        let text = text.replacen("[[source]]", "checkpoint-lease = '1s'\n\n[[source]]", 1);
        let text =
            text.replace("trigger = 'available-now'", "").replace("batch-interval = '0'", "batch-interval = '100ms'");
        std::fs::write(place.path().join("job.toml"), text).expect("the job");
        let environment = s3.environment(proxy.address());
        let mut running = start(place.path(), &environment, &["run", "job.toml"]);
        let waits = |running: &Running| running.stderr().matches("the job waits for its checkpoint").count();
        wait_for("the job to wait for its checkpoint", || (waits(&running) > 0).then_some(()));
        assert!(running.stderr().contains(said), "{}", running.stderr());
        proxy.set(Way::Open);
        let n_shown = || n_published(place.path(), "totals");
        wait_for("some batches", || (n_shown() > 3).then_some(()));
        proxy.set(way);
        let before = waits(&running);
        wait_for("it to wait again", || (waits(&running) > before).then_some(()));
        let over = "the lease could not be renewed, and nothing is shown until it is";
        wait_for("the lease to be over", || running.stderr().contains(over).then_some(()));
        let stands = n_shown();
        assert!(stands < 24, "it is not over: {stands}");
        assert!(running.is_running(), "{}", running.stderr());
        proxy.set(Way::Open);
        let expected = expected();
        wait_for("the other batches", || (n_shown() == 24).then_some(()));
        running.signal("TERM");
        let ended = running.wait();
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        assert_eq!(shown(place.path()), expected);
        assert!(proxy.n_refused() > 0);
    }
}

/// Who stops a job that waits for a store is not made to wait.
#[test]
fn a_job_that_waits_for_a_store_can_be_stopped() {
    let Some(s3) = S3::shared() else { return };
    let proxy = Proxy::to(&s3.address(), Way::Refused);
    let place = place("stopped");
    let running = start(place.path(), &s3.environment(proxy.address()), &["run", "job.toml"]);
    wait_for("the job to wait", || running.stderr().contains("the job waits for its checkpoint").then_some(()));
    running.signal("INT");
    let ended = running.wait();
    assert!(
        ended.code() == 0 && ended.stderr.contains("the job was stopped before it had started"),
        "{}",
        ended.stderr
    );
}
