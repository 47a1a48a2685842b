//! Tables of every format, and what happens when their files change.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use tempfile::tempdir;

use super::{LiveTable, Refresh, TableFormat, TableSource};
use crate::error::Error;
use crate::job::table::read_options;
use crate::step::testing::texts;

fn open(source: TableSource) -> Result<LiveTable, Error> {
    let table = LiveTable::new("customers", source)?;
    table.open()?;
    Ok(table)
}

fn shown(table: &LiveTable) -> String {
    texts(&table.current().rows).join(" ")
}

fn sample() -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(2), None]));
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("ann"), None, Some("bob")]));
    RecordBatch::try_from_iter([("id", ids), ("name", names)]).expect("columns of one length")
}

#[track_caller]
fn check(write: impl FnOnce(&Path), format: TableFormat, expected: &str) {
    let folder = tempdir().expect("a folder");
    write(&folder.path().join("data"));
    let table = open(TableSource::new(folder.path().join("data"), format)).expect("a table");
    assert_eq!(shown(&table), expected);
    let is_nullable = table.schema().fields().iter().all(|field| field.is_nullable());
    assert_eq!(is_nullable, format != TableFormat::Text);
}

#[test]
fn every_format_is_read_and_tells_its_columns() {
    let expected = "1|ann 2|NULL NULL|bob";
    check(|path| fs::write(path, "id,name\n1,ann\n2,\n,bob\n").expect("written"), TableFormat::Csv, expected);
    let json = "{\"id\":1,\"name\":\"ann\"}\n{\"id\":2}\n{\"name\":\"bob\"}\n";
    check(|path| fs::write(path, json).expect("written"), TableFormat::Json, expected);
    check(|path| fs::write(path, "ann\nbob\n").expect("written"), TableFormat::Text, "ann bob");
    let parquet = |path: &Path| {
        let file = File::create(path).expect("created");
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, sample().schema(), None).expect("a writer");
        writer.write(&sample()).expect("written");
        writer.close().expect("closed");
    };
    check(parquet, TableFormat::Parquet, expected);
    let file = |path: &Path| {
        let file = File::create(path).expect("created");
        let mut writer = arrow::ipc::writer::FileWriter::try_new(file, &sample().schema()).expect("a writer");
        writer.write(&sample()).expect("written");
        writer.finish().expect("finished");
    };
    check(file, TableFormat::Arrow, expected);
    let stream = |path: &Path| {
        let file = File::create(path).expect("created");
        let mut writer = arrow::ipc::writer::StreamWriter::try_new(file, &sample().schema()).expect("a writer");
        writer.write(&sample()).expect("written");
        writer.finish().expect("finished");
    };
    check(stream, TableFormat::Arrow, expected);
}

#[test]
fn declared_columns_are_found_by_name_and_converted() {
    let folder = tempdir().expect("a folder");
    fs::write(folder.path().join("b.csv"), "name,extra,id\nbob,x,2\n").expect("written");
    fs::write(folder.path().join("a.csv"), "id,name\n1,ann\n").expect("written");
    fs::write(folder.path().join("_half.csv"), "no").expect("written");
    let text =
        format!("path = '{}'\nformat = 'csv'\nschema = {{ id = 'int32', name = 'utf8' }}", folder.path().display());
    let source = read_options(&text, Path::new("."), TableSource::parse).expect("right").expect("right");
    let table = open(source.clone()).expect("a table");
    assert_eq!(shown(&table), "1|ann 2|bob");
    assert_eq!(table.schema().field(0).data_type(), &DataType::Int32);
    let pattern = TableSource { path: folder.path().join("[ab]*.csv"), ..source.clone() };
    assert_eq!(shown(&open(pattern).expect("a table")), "1|ann 2|bob");
    fs::write(folder.path().join("c.csv"), "name\ncarl\n").expect("written");
    let error = open(source).expect_err("a column is missing");
    assert!(error.in_one_line().ends_with("there is no column `id`, only `name`"), "{}", error.in_one_line());
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
    let table = open(TableSource::new(&path, TableFormat::Json)).expect("a table");
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
        let source = TableSource { refresh, ..TableSource::new(&path, TableFormat::Text) };
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
fn mistakes_are_named() {
    let read = |text: &str| match read_options(text, Path::new("."), TableSource::parse) {
        Ok(_) => String::new(),
        Err(problems) => problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; "),
    };
    assert_eq!(read(""), "`path` is missing; `format` is missing");
    assert_eq!(read("path = 'x'\nformat = 'xml'"), "`format` cannot be `xml`");
    assert_eq!(read("path = 'x'\nformat = 'csv'\nrefresh = 'daily'"), "`refresh` cannot be `daily`");
    assert_eq!(read("path = 'x'\nformat = 'csv'\nschema = { id = 'in64' }"), "`in64` is no type");
    assert_eq!(
        read("path = 'x'\nformat = 'text'\nschema = { id = 'int64' }"),
        "`schema` does not go with `format = \"text\"`"
    );
    let missing = open(TableSource::new("/nowhere/t.csv", TableFormat::Csv)).expect_err("nothing is there");
    assert!(missing.in_one_line().starts_with("`/nowhere/t.csv` cannot be looked at"), "{}", missing.in_one_line());
}
