//! Tables of every format, and what happens when their files change.

use std::fs;
use std::path::Path;
use std::time::Duration;

use arrow::datatypes::DataType;
use tempfile::tempdir;

use super::{LiveTable, Refresh, TableSource};
use crate::error::Error;
use crate::job::table::read_options;
use crate::source::reject::BadRows;
use crate::source::{Columns, CsvOptions, FileFormat, FileSource};
use crate::step::testing::texts;

fn open(source: TableSource) -> Result<LiveTable, Error> {
    let table = LiveTable::new("customers", source)?;
    table.open()?;
    Ok(table)
}

fn shown(table: &LiveTable) -> String {
    texts(&table.current().rows).join(" ")
}

fn json(path: &Path) -> TableSource {
    TableSource::new(FileSource::new(path, FileFormat::Json(Columns::infer())))
}

#[test]
fn columns_that_were_found_stay_those_of_the_table() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("t.csv");
    fs::write(&path, "id,name\n1,ann\n").expect("written");
    let files = FileSource::new(&path, FileFormat::Csv(Columns::infer(), CsvOptions::default()));
    let table = open(TableSource::new(files)).expect("a table");
    assert_eq!(table.schema().field(0).data_type(), &DataType::Int64);
    fs::write(&path, "name,id\nbob,2\n").expect("written");
    table.refresh(0);
    assert_eq!(shown(&table), "2|bob");
    // A number is a number from now on.
    fs::write(&path, "id,name\nx,carl\n").expect("written");
    table.refresh(1);
    assert_eq!((table.current().number, shown(&table)), (2, "2|bob".into()));
}

#[test]
fn a_table_follows_its_files() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("t.json");
    let replace = |text: &str| {
        fs::write(folder.path().join("new.tmp"), text).expect("written");
        fs::rename(folder.path().join("new.tmp"), &path).expect("moved");
    };
    replace("{\"id\":1}\n");
    let table = open(json(&path)).expect("a table");
    table.refresh(0);
    assert_eq!((table.current().number, shown(&table)), (1, "1".into()));
    replace("{\"id\":2}\n{\"id\":3}\n");
    table.refresh(1);
    assert_eq!((table.current().number, shown(&table)), (2, "2 3".into()));
    // Broken, then gone: what was there stays.
    replace("{\"id\":");
    table.refresh(2);
    table.refresh(3);
    assert_eq!((table.current().number, shown(&table)), (2, "2 3".into()));
    fs::remove_file(&path).expect("removed");
    table.refresh(4);
    assert_eq!((table.current().number, shown(&table)), (2, "2 3".into()));
    replace("{\"id\":4}\n");
    table.refresh(5);
    assert_eq!((table.current().number, shown(&table)), (3, "4".into()));
}

#[test]
fn a_table_is_looked_at_as_often_as_it_says() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("t.txt");
    for (refresh, expected) in
        [(Refresh::Batch, "b b b"), (Refresh::Never, "a a a"), (Refresh::Every(Duration::from_micros(10)), "a a b")]
    {
        fs::write(&path, "a\n").expect("written");
        let source = TableSource { refresh, ..TableSource::new(FileSource::text(&path)) };
        let table = open(source).expect("a table");
        table.refresh(0);
        fs::write(&path, "b\nb\n").expect("written");
        let seen = [5, 9, 10].map(|time_us| {
            table.refresh(time_us);
            shown(&table).chars().next().expect("a row").to_string()
        });
        assert_eq!(seen.join(" "), expected, "{refresh:?}");
    }
}

#[test]
fn a_table_that_is_too_large_is_not_read_and_leaves_the_one_before() {
    let folder = tempdir().expect("a folder");
    let write = |name: &str, n_rows: usize| {
        let text: String = (0..n_rows).map(|row| format!("{{\"name\":\"a name of row {row:05}\"}}\n")).collect();
        fs::write(folder.path().join(name), text).expect("written");
    };
    write("a.json", 10);
    let limited = |memory_bytes| TableSource { memory_bytes, ..json(folder.path()) };
    let table = open(limited(4 << 10)).expect("a table");
    write("b.json", 1000);
    table.refresh(0);
    assert_eq!((table.current().number, table.current().rows[0].num_rows()), (1, 10));
    let error = open(limited(4 << 10)).expect_err("more than 4 KiB");
    let message = error.in_one_line();
    assert!(message.starts_with(&format!("the rows of the table `{}` take ", folder.path().display())), "{message}");
    assert!(message.ends_with(" of its 2 files, and its `memory` is 4KiB"), "{message}");
    assert!(error.hint().is_some_and(|hint| hint.contains("`memory`")));
    open(limited(1 << 20)).expect("within a MiB");
}

#[test]
fn a_missing_directory_is_an_error_and_an_empty_one_a_table_without_rows() {
    let folder = tempdir().expect("a folder");
    let declared = |path: &Path| {
        let text = "path = 'x'\nformat = 'csv'\nschema = { id = 'int64' }";
        let parsed = read_options(text, Path::new("."), TableSource::parse).expect("right").expect("a table");
        TableSource { files: FileSource { path: path.into(), ..parsed.files.clone() }, ..parsed }
    };
    let missing = folder.path().join("none");
    let error = open(declared(&missing)).expect_err("nothing is there");
    assert_eq!(error.in_one_line(), format!("`{}` does not exist", missing.display()));
    let table = open(declared(folder.path())).expect("a table without rows");
    assert_eq!((table.current().number, shown(&table)), (1, String::new()));
    fs::write(folder.path().join("a.csv"), "id\n1\n").expect("written");
    table.refresh(0);
    assert_eq!((table.current().number, shown(&table)), (2, "1".into()));
    // Its directory is gone: what was there stays.
    fs::remove_dir_all(folder.path()).expect("removed");
    table.refresh(1);
    assert_eq!((table.current().number, shown(&table)), (2, "1".into()));
}

#[test]
fn mistakes_are_named() {
    let read = |text: &str| match read_options(text, Path::new("."), TableSource::parse) {
        Ok(_) => String::new(),
        Err(problems) => problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; "),
    };
    assert_eq!(read(""), "`path` is missing; `format` is missing");
    assert_eq!(read("path = 'x'\nformat = 'xml'"), "`format` cannot be `xml`");
    let csv = "path = 'x'\nformat = 'csv'\nschema = { id = 'int64' }";
    assert_eq!(read(csv), "");
    assert_eq!(read(&format!("{csv}\nrefresh = 'daily'")), "`refresh` cannot be `daily`");
    assert_eq!(
        read(&format!("{csv}\nmax-files-per-batch = 1")),
        "`max-files-per-batch` does not go with a table, which is read whole"
    );
    let letters = read(&format!("{csv}\non-error = 'dead-letter'\ndead-letter = 'bad'"));
    assert_eq!(letters, "a table has no dead letters");
    let missing = open(json(Path::new("/nowhere/t.json"))).expect_err("nothing is there");
    assert!(missing.in_one_line().contains("/nowhere/t.json"), "{}", missing.in_one_line());
}

#[test]
fn bad_rows_are_errors_unless_the_job_says_otherwise() {
    let parsed = |text: &str| {
        let text = format!("path = 'x'\nformat = 'csv'\nschema = {{ id = 'int64' }}\n{text}");
        read_options(&text, Path::new("."), TableSource::parse).expect("right").expect("right")
    };
    assert_eq!(parsed("").files.bad_rows, BadRows::Fail);
    assert_eq!(parsed("on-error = 'drop'").files.bad_rows, BadRows::Drop);
    assert_eq!(parsed("refresh = '5m'").refresh, Refresh::Every(Duration::from_secs(300)));
}
