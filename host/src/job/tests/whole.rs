//! What holds for every text.

use proptest::prelude::*;

use super::{AROUND, mistakes, parse_in};
use crate::job::Spans;
use crate::job::file::{JobFileError, read_job};

#[test]
fn a_job_file_is_shown_with_its_mistakes() {
    let text = "[job]
name = 'words'
batch_interval = '1s'

[[source]]
name = 'lines'
type = 'stdin'

[[sink]]
from = 'lnes'
type = 'console'
";
    let error = parse_in(super::folder().path(), text, &["job.partitions=none"]).expect_err("mistakes");
    assert_eq!(error.to_string(), "job.toml: 3 mistakes");
    assert_eq!(
        error.render(false),
        "error: `partitions` must be a whole number, not a text
 --> --set:1:16
  |
1 | job.partitions=none
  |                ^^^^

error: unknown key `batch_interval` in `[job]`
 --> job.toml:3:1
  |
3 | batch_interval = '1s'
  | ^^^^^^^^^^^^^^
  |
  = hint: Did you mean `batch-interval`?

error: there is no source or step `lnes`
  --> job.toml:10:8
   |
10 | from = 'lnes'
   |        ^^^^^^
   |
   = hint: Did you mean `lines`?

job.toml: 3 mistakes
"
    );
    assert!(error.render(true).contains("\u{1b}["));
}

#[test]
fn parts_of_a_job_are_found_in_its_file() {
    let text = format!(
        "{AROUND}[[step]]\nname = 's'\nfrom = ['in']\naggregate = {{ by = 'w', select = {{ n = 'count(*)' }} }}\n"
    );
    let file = parse_in(super::folder().path(), &text, &[]).expect("a job");
    let check = |spans: Option<&Spans>, key: &str, expected: &str| {
        assert_eq!(spans.and_then(|spans| spans.nearest(key)).map(|span| &text[span]), Some(expected), "{key}");
    };
    check(file.step_spans("s"), "aggregate.select.n", "'count(*)'");
    check(file.step_spans("s"), "aggregate.select.other", "{ n = 'count(*)' }");
    check(file.step_spans("s"), "aggregate.by", "'w'");
    check(file.step_spans("s"), "from.0", "'in'");
    check(file.step_spans("s"), "from.7", "['in']");
    check(file.step_spans("s"), "config", "[[step]]");
    check(file.sink_spans("sink-1"), "type", "'console'");
    check(file.source_spans("in"), "", "{ name = 'in', type = 'stdin' }");
    assert_eq!(file.source_spans("s"), None);
    assert_eq!(file.spans, Spans::default());
}

#[test]
fn files_that_are_no_text_are_refused() {
    let folder = super::folder();
    let check = |name: &str, bytes: &[u8], expected: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        let error = read_job(&path, &[]).expect_err("no job file");
        assert_eq!(error.to_string().replace(&path.display().to_string(), name), expected);
    };
    check("job.toml", b"[job]\nname = '\xff'\n", "`job.toml` is not a job file: line 2 is not UTF-8");
    check("job.toml", &vec![b' '; (4 << 20) + 1], "`job.toml` is not a job file: it is larger than 4 MiB");
    let error = read_job(&folder.path().join("nope.toml"), &[]).expect_err("no file");
    assert!(matches!(error, JobFileError::Unreadable { .. }));
    assert!(error.render(false).contains("hint: Check the path"), "{}", error.render(false));
    assert!(matches!(read_job(folder.path(), &[]), Err(JobFileError::Unreadable { .. })));
}

/// Texts that look like job files, with anything as keys and values.
fn text_like_a_job() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "name",
        "from",
        "type",
        "transform",
        "aggregate",
        "reduce",
        "union",
        "repartition",
        "by",
        "select",
        "plugin",
        "config",
        "limits",
        "partitions",
        "memory",
        "batch-interval",
        "trigger",
        "address",
        "path",
        "sha256",
        "job",
        "step",
        "limits.memory",
        "backend",
        "state",
        "aggregate.select.n",
        "x",
    ]);
    let value = prop_oneof![
        Just("'a'".to_owned()),
        Just("'b'".to_owned()),
        Just("['a', 'b']".to_owned()),
        Just("[1, []]".to_owned()),
        Just("{ by = 'a', plugin = 'words.wasm' }".to_owned()),
        Just("{ by = 1, select = { n = 'count(*)' }, partitions = 2 }".to_owned()),
        Just("-1".to_owned()),
        Just("nan".to_owned()),
        Just("99999999999999999999999999999999999999999999".to_owned()),
        Just("1979-05-27T07:32:00Z".to_owned()),
        "'[a-z0-9$\\{\\}:./-]{0,8}'",
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
    ];
    let header = prop::sample::select(vec![
        "[job]",
        "[limits]",
        "[state]",
        "[spill]",
        "[[source]]",
        "[[step]]",
        "[[sink]]",
        "[step]",
        "",
    ]);
    let line = (key, value).prop_map(|(key, value)| format!("{key} = {value}"));
    let table = (header, prop::collection::vec(line, 0..6))
        .prop_map(|(header, lines)| format!("{header}\n{}\n", lines.join("\n")));
    prop::collection::vec(table, 0..6).prop_map(|tables| tables.concat())
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}|[\\[\\]{}=\"'a-z.\n#0-9 -]{0,80}", argument in ".{0,30}|[a-z.=\\[\\]{}'\"0-9]{0,20}") {
        let _ = mistakes(&text, &[&argument]);
        let _ = mistakes(&format!("{AROUND}{text}"), &[&argument]);
    }

    #[test]
    fn no_job_makes_it_panic_and_every_mistake_can_be_shown(text in text_like_a_job()) {
        if let Err(error) = parse_in(std::path::Path::new("."), &text, &[]) {
            prop_assert!(error.render(false).contains("job.toml"));
        }
    }

    #[test]
    fn a_job_without_mistakes_reads_only_from_what_it_has(text in text_like_a_job()) {
        if let Ok(crate::job::file::JobFile { job, .. }) = parse_in(std::path::Path::new("."), &text, &[]) {
            let inputs = job.steps.iter().flat_map(|step| &step.from).chain(job.sinks.iter().flat_map(|sink| &sink.from));
            for input in inputs {
                let n = job.sources.iter().filter(|source| source.name == *input).count()
                    + job.steps.iter().filter(|step| step.name == *input).count();
                prop_assert_eq!(n, 1);
            }
        }
    }
}
