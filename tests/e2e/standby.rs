//! Two processes and one checkpoint: one has it, the other takes over when the first is gone, and what is shown is shown once.

use std::path::Path;
use std::process::Command;

use tidemill_tests::proxy::{Proxy, Way};
use tidemill_tests::s3::{BUCKET, S3};
use tidemill_tests::{Running, binary, folder, run, wait_for};

use crate::recovery::{Environment, job, n_published, shown, write_source};

const TOTALS: &str = "
[[step]]
name = 'totals'
from = 'left'
aggregate = { by = ['user'], select = { rows = 'count(*)', total = 'sum(n)' }, running = true }
";

/// Files of the source, a batch each.
const BATCHES: usize = 24;

/// A job that goes on for ever, a file each 100 ms, with its checkpoint in a directory or in a store.
struct Place {
    folder: tempfile::TempDir,
    environment: Environment,
}

impl Place {
    fn new(store: Option<(&S3, &str)>, console: bool) -> Self {
        let folder = folder();
        write_source(folder.path(), "left", 1);
        let text = job(2, TOTALS, if console { &[] } else { &["totals"] });
        let mut text =
            text.replace("trigger = 'available-now'", "").replace("batch-interval = '0'", "batch-interval = '100ms'");
        if console {
            text.push_str("\n[[sink]]\nfrom = 'totals'\ntype = 'console'\n");
        }
        let mut environment = Vec::new();
        if let Some((store, name)) = store {
            let url = format!("checkpoint = 's3://{BUCKET}/standby/{name}'\ncheckpoint-lease = '1500ms'");
            text = text.replace("checkpoint = 'checkpoint'", &url);
            environment = store.environment(&store.address());
        }
        std::fs::write(folder.path().join("job.toml"), text).expect("a new file");
        Self { folder, environment }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn start(&self, arguments: &[&str], more: &[(&'static str, String)]) -> Running {
        let mut command = Command::new(binary());
        command.args(["run", "job.toml"]).args(arguments).current_dir(self.path());
        command.envs(self.environment.iter().cloned()).envs(more.iter().cloned());
        Running::spawn(command)
    }

    /// Starts a process, and when it has the checkpoint another that stands by.
    fn start_two(&self, of_first: &[(&'static str, String)]) -> (Running, Running) {
        let first = self.start(&[], of_first);
        wait_for("the first batch", || (self.n_manifests() > 0 || first.stdout().contains("batch 0")).then_some(()));
        let second = self.start(&["--standby"], &[]);
        let said = format!("the job stands by: process {} of `", first.pid());
        wait_for("the second to stand by", || second.stderr().contains(&said).then_some(()));
        (first, second)
    }

    fn n_manifests(&self) -> usize {
        n_published(self.path(), "totals")
    }

    #[track_caller]
    fn wait_for_manifests(&self, n: usize) {
        wait_for("batches to be shown", || (self.n_manifests() >= n).then_some(()));
    }

    /// Stops a process when all is shown, which must be what one process shows that nothing happened to.
    #[track_caller]
    fn check_all_shown(&self, last: Running) {
        self.wait_for_manifests(BATCHES);
        last.signal("TERM");
        let ended = last.wait();
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        assert_eq!(ended.stderr.matches("the job stands by: process").count(), 1, "{}", ended.stderr);
        let straight = folder();
        write_source(straight.path(), "left", 1);
        std::fs::write(straight.path().join("job.toml"), job(2, TOTALS, &["totals"])).expect("a new file");
        let ended = run(straight.path(), &["run", "job.toml"]);
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        assert_eq!(shown(self.path()), shown(straight.path()));
    }
}

fn check_killed(place: &Place) {
    for death in ["rows-published:4", "commit-written:4", "file-published:9", "offsets-written:5"] {
        let _ = std::fs::remove_dir_all(place.path().join("out"));
        let _ = std::fs::remove_dir_all(place.path().join("checkpoint"));
        let (first, second) = place.start_two(&[("TIDEMILL_DIE_AT", death.into())]);
        assert_eq!(first.wait().status.code(), None, "it dies at {death}");
        place.check_all_shown(second);
        return_if_in_store(place);
    }
}

/// The next one needs a checkpoint of its own: another folder of the store.
fn return_if_in_store(place: &Place) {
    let job = place.path().join("job.toml");
    let text = std::fs::read_to_string(&job).expect("the job");
    std::fs::write(&job, text.replace("/standby/", "/standby/again-")).expect("the job");
}

#[test]
fn a_job_that_stands_by_takes_over_when_the_owner_of_the_directory_dies() {
    check_killed(&Place::new(None, false));
}

#[test]
fn a_job_that_stands_by_takes_over_when_the_owner_of_the_lease_dies() {
    let Some(s3) = S3::shared() else { return };
    check_killed(&Place::new(Some((s3, "killed")), false));
}

#[test]
fn a_job_that_stands_by_takes_over_when_the_owner_ends() {
    let Some(s3) = S3::shared() else { return };
    for store in [None, Some((s3, "ended"))] {
        let place = Place::new(store, false);
        let (first, second) = place.start_two(&[]);
        place.wait_for_manifests(5);
        first.signal("TERM");
        let ended = first.wait();
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        place.check_all_shown(second);
    }
}

/// The owner stands still for longer than its lease. Its sink is locked, on this machine, until it sees that it has lost the lease.
#[test]
fn an_owner_that_stood_still_ends_and_does_no_harm() {
    let Some(s3) = S3::shared() else { return };
    let place = Place::new(Some((s3, "still")), false);
    let (first, second) = place.start_two(&[]);
    place.wait_for_manifests(5);
    first.signal("STOP");
    wait_for("the second to take over", || second.stderr().contains("it has not renewed its lease").then_some(()));
    let said = "the job stands by: another process writes to its sink";
    wait_for("it to wait for the sink", || second.stderr().contains(said).then_some(()));
    first.signal("CONT");
    let ended = first.wait();
    let expected = format!(
        "error: checkpoint `s3://{BUCKET}/standby/still` was taken over by another process (process {} of `",
        second.pid()
    );
    assert!(ended.code() == 1 && ended.stderr.contains(&expected), "{}", ended.stderr);
    place.check_all_shown(second);
}

/// The same with a sink that nobody locks: the second goes on while the first stands still, and the first shows nothing more.
#[test]
fn nothing_more_is_shown_by_an_owner_that_has_lost_its_lease() {
    let Some(s3) = S3::shared() else { return };
    let place = Place::new(Some((s3, "console")), true);
    let (first, second) = place.start_two(&[]);
    wait_for("some batches", || first.stdout().contains("batch 4 ").then_some(()));
    first.signal("STOP");
    let last = format!("batch {} ", BATCHES - 1);
    wait_for("the second to come to the last batch", || second.stdout().contains(&last).then_some(()));
    first.signal("CONT");
    let ended = first.wait();
    assert!(ended.code() == 1 && ended.stderr.contains("was taken over by another process"), "{}", ended.stderr);
    second.signal("TERM");
    let second = second.wait();
    assert_eq!(second.code(), 0, "{}", second.stderr);
    let batches = |text: &str| -> Vec<usize> {
        let numbers = text.lines().filter_map(|line| line.strip_prefix("batch ")?.split(' ').next()?.parse().ok());
        numbers.collect()
    };
    let (before, after) = (batches(&ended.stdout), batches(&second.stdout));
    let repeated = before.iter().filter(|batch| after.contains(batch)).count();
    let last_before = before.len();
    assert_eq!(before, (0..last_before).collect::<Vec<_>>(), "{}", ended.stdout);
    assert_eq!(after, (last_before - repeated..BATCHES).collect::<Vec<_>>(), "{}", second.stdout);
    assert!(repeated <= 1 && repeated == second.stdout.matches("again after a restart").count(), "{}", second.stdout);
}

/// The owner is cut off from the store, and others are not.
#[test]
fn an_owner_that_is_cut_off_from_the_store_ends_when_it_is_back() {
    let Some(s3) = S3::shared() else { return };
    let place = Place::new(Some((s3, "cut-off")), false);
    let proxy = Proxy::to(&s3.address(), Way::Open);
    let (first, second) = place.start_two(&[("AWS_ENDPOINT_URL", format!("http://{}", proxy.address()))]);
    place.wait_for_manifests(5);
    proxy.set(Way::Closed);
    wait_for("the second to take over", || second.stderr().contains("it has not renewed its lease").then_some(()));
    proxy.set(Way::Open);
    let ended = first.wait();
    assert!(ended.code() == 1 && ended.stderr.contains("was taken over by another process"), "{}", ended.stderr);
    place.check_all_shown(second);
}

#[test]
fn without_standby_a_second_process_is_refused_and_with_it_can_be_stopped() {
    let Some(s3) = S3::shared() else { return };
    for store in [None, Some((s3, "refused"))] {
        let place = Place::new(store, false);
        let (first, mut second) = place.start_two(&[]);
        let third = place.start(&[], &[]).wait();
        let said = format!("is in use by another process (process {} of `", first.pid());
        assert!(third.code() == 1 && third.stderr.contains(&said), "{}", third.stderr);
        assert!(third.stderr.contains("With `--standby` it waits"), "{}", third.stderr);
        second.type_in("stop\n");
        let ended = second.wait();
        assert!(
            ended.code() == 0 && ended.stderr.contains("the job was stopped before it had started"),
            "{}",
            ended.stderr
        );
        first.signal("TERM");
        assert_eq!(first.wait().code(), 0);
    }
}

#[test]
fn who_stands_by_needs_a_checkpoint() {
    let place = folder();
    write_source(place.path(), "left", 1);
    let text =
        job(2, TOTALS, &["totals"]).replace("checkpoint = 'checkpoint'\n", "").replace("checkpoint-batches = 3\n", "");
    std::fs::write(place.path().join("job.toml"), text).expect("a new file");
    let refused = run(place.path(), &["run", "job.toml", "--standby"]);
    assert_eq!(refused.code(), 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("`--standby` needs a `checkpoint`"), "{}", refused.stderr);
    assert!(!place.path().join("out").exists(), "nothing runs");
}
