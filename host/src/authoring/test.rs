//! `tidemill plugin test`: runs a plugin on rows in every way in which a job may run it, and tells where that matters.
//!
//! A job may cut a partition into calls anywhere, run any number of partitions, throw an instance away between two
//! batches, give keys in any order, and run a batch again. None of it may change what comes out.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::authoring::AuthoringError;
use crate::authoring::report::Report;
use crate::authoring::trial::{self, Feed, Line, Ran, Subject, TrialError, Way, compare, lines_of};
use crate::error::Error;
use crate::operator::{CallError, Operator, Role};
use crate::plugin::{InstanceMode, LoadOptions, Runtime};
use crate::source::FileSource;

/// Into how many rows the calls of a test are cut.
const CHUNKS: [u32; 3] = [1, 2, 7];

/// On how many partitions rows are dealt out.
const PARTITIONS: [u32; 2] = [2, 3];

/// Into how many batches rows are cut to see what an instance keeps.
const BATCHES: usize = 3;

/// What is tested, and with which rows.
#[derive(Debug, Clone)]
pub struct TestRequest {
    /// The plugin's file.
    pub plugin: PathBuf,
    /// The role; `None`: the plugin's, which has one.
    pub role: Option<Role>,
    /// The step's configuration.
    pub config: serde_json::Value,
    /// The columns that are the key.
    pub by: Vec<String>,
    /// Whether the step says `whole-partition`: then calls are not cut.
    pub whole_partition: bool,
    /// Where the rows are.
    pub rows: FileSource,
    /// The file with the rows that come out.
    pub expected: Option<PathBuf>,
    /// Whether that file is written rather than compared with.
    pub update: bool,
    /// The only check that is run, besides those it needs.
    pub only: Option<String>,
}

/// What a test found.
#[derive(Debug)]
pub struct Tested {
    /// The checks.
    pub report: Report,
    /// The role that was tested.
    pub role: Role,
    /// Rows that were read.
    pub n_rows: u64,
    /// Rows that came out when they were given at once.
    pub n_rows_out: u64,
    /// Rows that the operator rejected then.
    pub n_rejected: u64,
    /// The file that was written, if one was.
    pub updated: Option<PathBuf>,
}

/// Loads a plugin for a trial: the role it is tried in, its own when `role` says none.
///
/// # Errors
///
/// When it cannot be loaded, or it is not said which of its roles is meant.
pub(super) fn load(
    runtime: &Runtime,
    path: &Path,
    role: Option<Role>,
    instance: InstanceMode,
) -> Result<(Arc<crate::plugin::Plugin>, Role), Error> {
    let name = path.display().to_string();
    let options = LoadOptions { instance, ..LoadOptions::default() };
    let plugin = Arc::new(runtime.load(&name, path, &options)?);
    let roles = plugin.roles();
    let role = match (role, roles.as_slice()) {
        (Some(role), _) => role,
        (None, [role]) => *role,
        (None, roles) => {
            let names: Vec<_> = roles.iter().map(|role| role.name()).collect();
            let (message, hint) = match names.is_empty() {
                true => (format!("`{name}` has no role"), None),
                false => (
                    format!("`{name}` has the roles {}", names.join(", ")),
                    Some("Say which is meant with `--role`.".to_owned()),
                ),
            };
            return Err(TrialError { message, hint }.into());
        }
    };
    Ok((plugin, role))
}

/// Tests a plugin.
///
/// # Errors
///
/// When there is nothing to compare: the plugin or its rows cannot be read, it refuses them, or it fails when they are given at
/// once. What differs is in the report.
pub fn test(request: &TestRequest, runtime: &Runtime) -> Result<Tested, Error> {
    let (kept, role) = load(runtime, &request.plugin, request.role, InstanceMode::Kept)?;
    let (fresh, _) = load(runtime, &request.plugin, request.role, InstanceMode::Fresh)?;
    let subject = |operator: Arc<dyn Operator>| Subject {
        operator,
        role,
        config: request.config.clone(),
        by: request.by.clone(),
        whole_partition: request.whole_partition,
    };
    let (schema, batches) = trial::read_rows(&request.rows, role == Role::Updater, runtime)?;
    let mut test = Test {
        runtime,
        kept: subject(kept),
        fresh: subject(fresh),
        all: trial::concat(&schema, batches.iter())?,
        schema,
        batches,
        whole: Ran { batches: Vec::new(), counts: Default::default() },
        only: request.only.clone(),
        report: Report::default(),
    };
    test.whole = test.run(&test.kept, test.batches.clone(), &Way::whole())?;
    let updated = test.check_expected(request)?;
    test.check_cut();
    test.check_instances();
    test.check_rows()?;
    if let Some(only) = &request.only
        && test.report.checks.is_empty()
    {
        let message = format!("there is no check `{only}` for these rows");
        let hint = "The names of checks are what `tidemill plugin test` prints before what they are about.".to_owned();
        return Err(TrialError { message, hint: Some(hint) }.into());
    }
    Ok(Tested {
        role,
        n_rows: test.all.num_rows() as u64,
        n_rows_out: test.whole.rows().map(|rows| rows.num_rows() as u64).sum(),
        n_rejected: test.whole.counts.rows_rejected,
        updated,
        report: test.report,
    })
}

/// A test under way.
struct Test<'a> {
    runtime: &'a Runtime,
    /// The operator, each instance of which is kept.
    kept: Subject,
    /// The same, with a new instance for each batch.
    fresh: Subject,
    schema: SchemaRef,
    /// The rows: of an updater those of each batch, of other roles all in one.
    batches: Vec<RecordBatch>,
    /// All rows.
    all: RecordBatch,
    /// What comes out when nothing is cut: the others are held against it.
    whole: Ran,
    only: Option<String>,
    report: Report,
}

type Found = Result<(), (String, Option<String>)>;

impl Test<'_> {
    fn run(&self, subject: &Subject, batches: Vec<RecordBatch>, way: &Way) -> Result<Ran, Error> {
        trial::run(subject, self.runtime, Feed::new(&self.schema, batches), way)
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == name)
    }

    fn is_keyed(&self) -> bool {
        self.kept.role != Role::Transform
    }

    /// Adds a check, if it is wanted.
    fn check(&mut self, name: &str, about: &str, find: impl FnOnce(&Self) -> Found) {
        if self.is_wanted(name) {
            let found = find(self);
            self.report.add(name, about, found);
        }
    }

    /// Whether rows come out that are those of another run.
    fn same_as(&self, expected: &Ran, ran: Result<Ran, Error>, hint: &str) -> Found {
        let ran = ran.map_err(|error| failure(&error))?;
        // Which partition a key is in decides where its rows stand.
        let is_ordered = !self.is_keyed();
        let (expected, found) = (lines_of(expected.rows()), lines_of(ran.rows()));
        compare(&expected, &found, is_ordered).map_err(|difference| (difference.0, Some(hint.to_owned())))
    }

    /// Compares with the expected rows, or writes them; the file that was written.
    fn check_expected(&mut self, request: &TestRequest) -> Result<Option<PathBuf>, Error> {
        let Some(path) = &request.expected else {
            if request.update {
                let message = "there is no file for the rows that are expected".into();
                let hint = Some("Name it with `--expected`, or with `expected` in `operator.toml`.".into());
                return Err(TrialError { message, hint }.into());
            }
            return Ok(None);
        };
        let found = lines_of(self.whole.rows());
        let failed = |doing| {
            let path = path.clone();
            move |source| AuthoringError::File { doing, path, source }
        };
        if request.update {
            let text: String = found.iter().map(|line| format!("{line}\n")).collect();
            fs::write(path, text).map_err(failed("cannot write"))?;
            return Ok(Some(path.clone()));
        }
        if !self.is_wanted("expected") {
            return Ok(None);
        }
        let text = fs::read_to_string(path).map_err(failed("cannot read"))?;
        let parse = |(index, line): (usize, &str)| {
            Line::parse(line).map_err(|reason| TrialError {
                message: format!("line {} of `{}` is no row: {reason}", index + 1, path.display()),
                hint: Some("Each line is a row, as JSON: `--update` writes them.".into()),
            })
        };
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let expected = lines.map(parse).collect::<Result<Vec<_>, _>>()?;
        let about = format!("the rows are those of {}", path.file_name().unwrap_or_default().to_string_lossy());
        self.check("expected", &about, |test| {
            compare(&expected, &found, !test.is_keyed())
                .map_err(|difference| (difference.0, Some("`--update` writes what came, if that is right.".into())))
        });
        Ok(None)
    }

    /// Cuts rows into calls and partitions.
    fn check_cut(&mut self) {
        // A key's rows are not cut where the role gets them at once.
        let is_whole = matches!(self.kept.role, Role::Grouper | Role::Updater);
        let least = if is_whole {
            let largest = self.batches.iter().map(|rows| trial::largest_group(rows, &self.kept.by));
            // A key counts as a row.
            largest.max().unwrap_or(0) as u32 + 1
        } else {
            1
        };
        let mut sizes: Vec<u32> = CHUNKS.iter().map(|size| size.max(&least)).copied().collect();
        sizes.dedup();
        if self.kept.whole_partition {
            sizes.clear();
        }
        for size in sizes {
            let about = format!("calls of at most {size} rows: the same rows come out");
            self.check(&format!("chunks-{size}"), &about, |test| {
                let way = Way { rows_per_call: size, ..Way::whole() };
                let hint = match test.kept.role {
                    Role::Transform => {
                        "A partition may be cut anywhere. An operator that must see it whole needs `whole-partition = true`."
                    }
                    Role::Reducer => "Rows are combined in any grouping, so that the operator must be associative.",
                    Role::Aggregator => "Parts of a key are accumulated and then merged: `merge` must give the same.",
                    _ => "Keys come in any number of calls: one must not depend on another.",
                };
                test.same_as(&test.whole, test.run(&test.kept, test.batches.clone(), &way), hint)
            });
        }
        for partitions in PARTITIONS {
            let about = format!("{partitions} partitions: the same rows come out");
            self.check(&format!("partitions-{partitions}"), &about, |test| {
                let way = Way { partitions, ..Way::whole() };
                let hint = "Each partition has an instance of its own: what an instance keeps is not what another has.";
                test.same_as(&test.whole, test.run(&test.kept, test.batches.clone(), &way), hint)
            });
        }
    }

    /// Runs it again, and with new instances.
    fn check_instances(&mut self) {
        self.check("twice", "the same rows again: the same bytes come out", |test| {
            let again = test
                .run(&test.kept, test.batches.clone(), &Way::whole())
                .map_err(|error| failure(&error))?;
            if again.batches == test.whole.batches {
                return Ok(());
            }
            let hint = "A batch may be run again, and must come out the same: time and random numbers are the batch's, and so \
                        must everything else be; the order of a hash table is not.";
            let difference = compare(&lines_of(test.whole.rows()), &lines_of(again.rows()), true);
            let what = difference.err().map_or("the rows are the same, and their bytes are not".into(), |d| d.0);
            Err((what, Some(hint.into())))
        });
        self.check("fresh", "a new instance for each batch: the same rows come out", |test| {
            let batches = if test.batches.len() > 1 { test.batches.clone() } else { pieces(&test.all, BATCHES) };
            let kept = test.run(&test.kept, batches.clone(), &Way::whole()).map_err(|error| failure(&error))?;
            let hint = "An instance keeps something from batch to batch. It is lost when a job is started again: state is for an \
                        updater, and the host keeps it.";
            test.same_as(&kept, test.run(&test.fresh, batches, &Way::whole()), hint)
        });
    }

    /// Changes the rows.
    fn check_rows(&mut self) -> Result<(), Error> {
        if self.is_keyed() {
            let shuffled = self.batches.iter().map(|rows| trial::shuffle_between_keys(rows, &self.kept.by));
            let shuffled = shuffled.collect::<Result<Vec<_>, _>>()?;
            self.check("order", "keys in another order: the same rows come out", |test| {
                let hint = "The rows of a key keep their order; those of different keys come in any.";
                test.same_as(&test.whole, test.run(&test.kept, shuffled, &Way::whole()), hint)
            });
        }
        let empty = RecordBatch::new_empty(Arc::clone(&self.schema));
        self.check("empty", "a batch without rows", |test| {
            let ran = test.run(&test.kept, vec![empty.clone(), empty], &Way::whole());
            ran.map(drop).map_err(|error| failure(&error))
        });
        let nullable = |index: &usize| self.schema.field(*index).is_nullable();
        let columns: Vec<usize> = (0..self.schema.fields().len()).filter(nullable).collect();
        for column in columns {
            let field = self.schema.field(column).name().clone();
            let batches = self.batches.iter().map(|rows| trial::one_column_null(rows, column));
            let batches = batches.collect::<Result<Vec<_>, _>>()?;
            self.check(
                &format!("null-{field}"),
                &format!("`{field}` is null in every row: no crash"),
                |test| match test.run(&test.kept, batches, &Way::whole()) {
                    Err(error) if !says_so(&error) => Err(failure(&error)),
                    _ => Ok(()),
                },
            );
        }
        Ok(())
    }
}

/// Neighbouring rows, in so many pieces.
fn pieces(rows: &RecordBatch, n: usize) -> Vec<RecordBatch> {
    let at = |piece: usize| rows.num_rows() * piece / n;
    (0..n).map(|piece| rows.slice(at(piece), at(piece + 1) - at(piece))).collect()
}

/// An error as what a check found.
fn failure(error: &Error) -> (String, Option<String>) {
    (error.in_one_line(), error.hint())
}

/// Whether an error is the operator's own word that it failed, and no crash.
fn says_so(error: &Error) -> bool {
    error.downcast_ref::<CallError>().is_some_and(|error| matches!(error, CallError::Failed { .. }))
}
