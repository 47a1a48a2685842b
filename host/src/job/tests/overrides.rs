//! `--set key=value`.

use std::time::Duration;

use super::{job, mistakes};
use crate::job::{OperatorRef, StepKind};

const JOB: &str = "
[job]
batch-interval = '1s'

[[source]]
name = 'lines'
type = 'socket'
address = 'localhost:1'

[[step]]
name = 'words'
from = 'lines'
transform = 'words.wasm'

[[step]]
name = 'counts'
from = 'words'
aggregate = { by = 'w', select = { n = 'count(*)' } }

[[sink]]
from = 'counts'
type = 'console'
";

#[test]
fn values_win_over_the_file() {
    assert_eq!(job(JOB, &["job.batch-interval=0"]).settings.batch_interval, Duration::ZERO);
    assert_eq!(job(JOB, &["job.batch-interval=10ms"]).settings.batch_interval, Duration::from_millis(10));
    assert_eq!(job(JOB, &["job.batch-interval = \"10ms\" "]).settings.batch_interval, Duration::from_millis(10));
    assert_eq!(job(JOB, &["job.partitions=9"]).settings.partitions, 9);
    assert_eq!(job(JOB, &["job.partitions=9", "job.partitions=8"]).settings.partitions, 8);
    assert_eq!(job(JOB, &["job.name=5"]).settings.name, "5");
    assert_eq!(job(JOB, &["job.name=${SECRET}"]).settings.name, "hunter2");
    assert_eq!(job(JOB, &["limits.memory=1MiB"]).settings.limits.memory_bytes, 1 << 20);
    assert_eq!(job(JOB, &["step.counts.from=lines", "sink.sink-1.from=['words','counts']"]).steps[1].from, ["lines"]);
    assert_eq!(job(JOB, &["step.counts.from=['lines', 'words']"]).steps[1].from, ["lines", "words"]);
    assert_eq!(job(JOB, &["sink.sink-1.name=out"]).sinks[0].name, "out");
}

#[test]
fn tables_are_made_on_the_way() {
    let job = job(JOB, &["step.words.config.a.b=true", "step.words.config.'x y'=[1]", "step.words.instance=fresh"]);
    let StepKind::Transform(operator) = &job.steps[0].kind else { panic!("no transform") };
    assert_eq!(operator.config, serde_json::json!({"a": {"b": true}, "x y": [1]}));
    assert!(matches!(operator.operator, OperatorRef::Plugin { fresh: true, .. }));
    let StepKind::Aggregate { select, .. } = &job.steps[1].kind else { panic!("no aggregate") };
    assert_eq!(select.len(), 1);
}

#[track_caller]
fn check(argument: &str, expected: &str) {
    assert_eq!(mistakes(JOB, &[argument]), format!("--set {argument}:{expected}\n"));
}

#[test]
fn mistakes_name_the_argument() {
    let hint = "Write `--set key=value`, as in `--set job.batch-interval=0`.";
    check("job.partitions", &format!("1 a `=` is missing; {hint}"));
    check("=5", &format!("1 `` is not a key; {hint}"));
    check("job..x=5", &format!("1 `job..x` is not a key; {hint}"));
    check("a b=5", &format!("1 `a b` is not a key; {hint}"));
    check("job.partitions=0", "16 `partitions` must be between 1 and 4096");
    check("job.partitions=many", "16 `partitions` must be a whole number, not a text");
    check("job.partitons=4", "5 unknown key `partitons` in `[job]`; Did you mean `partitions`?");
    check("jbo.partitions=4", "1 unknown section `jbo`; Did you mean `job`?");
    check(
        "job.batch-interval=5",
        "20 `batch-interval` must be a duration with a unit; Write it with its unit, as in `5s`.",
    );
    check("step.word.config.a=1", "6 there is no step `word`; Did you mean `words`?");
    check("source.x.address=1", "8 there is no source `x`; There are: `lines`.");
    check("step=[]", "1 `step` is a list of tables, and only their keys can be set; Write `step.NAME.KEY=value`.");
    check("step.words={}", "1 `step.words` is a table, and only its keys can be set; Write `step.words.KEY=value`.");
    check("job.name.x=1", "5 `name` must be a text, not a table");
    check("step.words.transform.x=1", "12 `transform` is a text, and has no keys to set");
    check("step.words.transform=nope.wasm", "22 there is no file `DIR/nope.wasm`");
    check(
        "step.words.from=[lines",
        "23 unclosed array, expected `]`; A text that starts with a quote or a bracket needs quotes around it.",
    );
    check("step.words.from=nope", "17 there is no source or step `nope`; There are: `counts`, `lines`.");
}
