//! Nexmark: the generated world is sound, its queries give what a plain program gives, and jobs give what the queries give.

use std::collections::{BTreeMap, HashMap};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill::source::generator::{NexmarkEvents, NexmarkOptions};
use tidemill_tests::{Running, binary, folder, project, run, written_lines};

use oracle::{Oracle, QUERIES};

mod oracle;

/// Events of the world under test, and how many happen in a second of event time: a minute of six windows.
const EVENTS: u64 = 60_000;
const RATE: u64 = 1_000;

fn options() -> NexmarkOptions {
    NexmarkOptions { n_events: Some(EVENTS), events_per_second: RATE, ..NexmarkOptions::of(NexmarkEvents::Bids) }
}

static ORACLE: LazyLock<Oracle> = LazyLock::new(|| Oracle::new(&options()));

/// Rows of a query as JSON.
fn json_rows(oracle: &Oracle, query: &str) -> Vec<Value> {
    oracle.lines(query).iter().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// The one number that a query gives.
fn number(oracle: &Oracle, query: &str) -> i64 {
    match json_rows(oracle, &format!("SELECT ({query}) AS n")).as_slice() {
        [row] => row["n"].as_i64().expect("a whole number"),
        rows => panic!("{} rows where one is asked for", rows.len()),
    }
}

#[test]
fn of_fifty_events_one_is_a_person_three_are_auctions_and_the_rest_bids() {
    let count = |table: &str| number(&ORACLE, &format!("SELECT count(*) FROM {table}"));
    assert_eq!([count("persons"), count("auctions"), count("bids")], [1_200, 3_600, 55_200]);
}

#[test]
fn everybody_and_everything_referred_to_is_there() {
    let dangling = |table: &str, column: &str, of: &str| {
        number(&ORACLE, &format!("SELECT count(*) FROM {table} t LEFT ANTI JOIN {of} o ON t.{column} = o.id"))
    };
    assert_eq!(dangling("bids", "auction", "auctions"), 0);
    assert_eq!(dangling("bids", "bidder", "persons"), 0);
    assert_eq!(dangling("auctions", "seller", "persons"), 0);
    // And was there before: without disorder nothing is earlier than what it refers to.
    let early = "SELECT count(*) FROM bids b JOIN auctions a ON b.auction = a.id WHERE b.date_time < a.date_time";
    assert_eq!(number(&ORACLE, early), 0);
    let early = "SELECT count(*) FROM auctions a JOIN persons p ON a.seller = p.id WHERE a.date_time < p.date_time";
    assert_eq!(number(&ORACLE, early), 0);
    assert_eq!(
        number(&ORACLE, "SELECT count(*) FROM auctions WHERE expires <= date_time OR reserve <= initial_bid"),
        0
    );
}

#[test]
fn ids_are_unique_and_some_are_hot() {
    for table in ["persons", "auctions"] {
        assert_eq!(number(&ORACLE, &format!("SELECT count(*) - count(DISTINCT id) FROM {table}")), 0);
    }
    // Half of the bids are for the hot auctions, one of a hundred.
    let hot = number(&ORACLE, "SELECT count(*) FROM bids WHERE auction % 100 = 0");
    assert!((27_000..29_000).contains(&hot), "{hot}");
    // Three quarters of the auctions are opened by one person of a hundred.
    let hot = number(&ORACLE, "SELECT count(*) FROM auctions WHERE seller % 100 = 0");
    assert!((2_600..2_900).contains(&hot), "{hot}");
}

#[test]
fn a_world_is_fixed_by_its_seed() {
    let small = NexmarkOptions { n_events: Some(2_000), ..options() };
    let all = |options: &NexmarkOptions| {
        let oracle = Oracle::new(options);
        ["persons", "auctions", "bids"].map(|table| oracle.lines(&format!("SELECT * FROM {table}")))
    };
    let first = all(&small);
    assert_eq!(first, all(&small));
    let other = all(&NexmarkOptions { seed: 43, ..small });
    assert!(first.iter().zip(&other).all(|(first, other)| first != other));
}

/// Whoever changes the world changes what benchmarks measure: keep it.
#[test]
fn the_world_of_the_usual_seed_stays_as_it_is() {
    let first = ["persons", "auctions", "bids"].map(|table| {
        // The first five events: a person, three auctions, a bid.
        let until = "date_time < '2026-01-01T00:00:00.005Z'";
        ORACLE.lines(&format!("SELECT * EXCLUDE (extra), left(extra, 8) AS extra FROM {table} WHERE {until}"))
    });
    assert_eq!(first.concat(), FIRST_EVENTS);
}

const FIRST_EVENTS: [&str; 5] = [
    r#"{"id":1000,"name":"Radia Gray","email_address":"lmxr@oprovdo.com","credit_card":"1047 3910 4611 2159","city":"Bend","state":"OR","date_time":"2026-01-01T00:00:00Z","extra":"zjotzysi"}"#,
    r#"{"id":1000,"item_name":"tqhdv k kz o","description":"abe lki ajddddktf utwabk p ph kpwqiabz kptd fkj bha aomkroh bpnv jstfixwfm oi fcukke ","initial_bid":622222,"reserve":623535,"date_time":"2026-01-01T00:00:00.001Z","expires":"2026-01-01T00:00:01.747990Z","seller":1000,"category":14,"extra":"kgsybnno"}"#,
    r#"{"id":1001,"item_name":" wattrlqk jgtzm zw","description":" nlh ppxw jfhi","initial_bid":10757,"reserve":935929,"date_time":"2026-01-01T00:00:00.002Z","expires":"2026-01-01T00:00:01.192916Z","seller":1000,"category":14,"extra":"daeajxor"}"#,
    r#"{"id":1002,"item_name":"qcqeesg ","description":"vv lr bvo rlbmka lt te bpjjci wjplksd an dng jldhc ghh jfjagj z necwzpdshv eg bfvyg limkmt voabgnkye","initial_bid":35766,"reserve":627823,"date_time":"2026-01-01T00:00:00.003Z","expires":"2026-01-01T00:00:01.864757Z","seller":1000,"category":10,"extra":"mdnnfxjo"}"#,
    r#"{"auction":1000,"bidder":1000,"price":25121,"channel":"channel-341","url":"https://www.nexmark.com/yvuux/drfcl/evosg/item.htm?query=1&channel_id=341","date_time":"2026-01-01T00:00:00.004Z","extra":"ibbuuiwf"}"#,
];

#[test]
fn events_are_out_of_order_within_the_disorder_only() {
    let disorder = |disorder| {
        let oracle = Oracle::new(&NexmarkOptions { disorder, n_events: Some(20_000), ..options() });
        // How far each bid is behind the latest before it, in the order in which they are made; that is the table's.
        let latest = "max(CAST(date_time AS BIGINT)) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)";
        let behind = format!("SELECT {latest} - CAST(date_time AS BIGINT) AS behind FROM bids");
        number(&oracle, &format!("SELECT max(behind) FROM ({behind})"))
    };
    assert_eq!(disorder(Duration::ZERO), 0);
    let latest = disorder(Duration::from_secs(2));
    assert!((1_800_000..=2_000_000).contains(&latest), "{latest}");
}

#[test]
fn every_query_gives_rows() {
    let counts: Vec<(&str, usize)> = QUERIES.iter().map(|(name, _)| (*name, ORACLE.answer(name).len())).collect();
    assert!(counts.iter().all(|(_, n_rows)| *n_rows > 0), "{counts:?}");
    // Every bid; every category; every window that holds a bid: four begin before the first event.
    let count = |name: &str| counts.iter().find(|(query, _)| *query == name).map(|(_, n_rows)| *n_rows);
    assert_eq!(["q0", "q1", "q4", "q5", "q7"].map(count), [Some(55_200), Some(55_200), Some(5), Some(34), Some(6)]);
}

/// A bid as a plain program sees it.
struct Bid {
    auction: i64,
    price: i64,
    time_us: i64,
}

fn bids() -> Vec<Bid> {
    let rows = json_rows(&ORACLE, "SELECT auction, price, CAST(date_time AS BIGINT) AS time_us FROM bids");
    let number = |row: &Value, name: &str| row[name].as_i64().expect("a whole number");
    let bid =
        |row| Bid { auction: number(row, "auction"), price: number(row, "price"), time_us: number(row, "time_us") };
    rows.iter().map(bid).collect()
}

/// An instant as JSON has it.
fn instant(time_us: i64) -> String {
    let rows = format!("SELECT arrow_cast({time_us}, 'Timestamp(Microsecond, Some(\"+00:00\"))') AS instant");
    json_rows(&ORACLE, &rows)[0]["instant"].as_str().expect("a text").to_owned()
}

#[track_caller]
fn check_answer(query: &str, mut expected: Vec<String>) {
    expected.sort();
    assert_eq!(ORACLE.answer(query), expected);
}

#[test]
fn a_plain_program_finds_the_same_hot_items() {
    let mut windows: BTreeMap<i64, HashMap<i64, i64>> = BTreeMap::new();
    for bid in bids() {
        let last = bid.time_us.div_euclid(2_000_000) * 2_000_000;
        for start in (0..5).map(|k| last - k * 2_000_000) {
            *windows.entry(start).or_default().entry(bid.auction).or_default() += 1;
        }
    }
    let line = |(start, counts): (&i64, &HashMap<i64, i64>)| {
        let (auction, n) = counts.iter().min_by_key(|(auction, n)| (-**n, **auction)).expect("a window with bids");
        let (from, to) = (instant(*start), instant(start + 10_000_000));
        format!(r#"{{"window_start":"{from}","window_end":"{to}","auction":{auction},"n":{n}}}"#)
    };
    check_answer("q5", windows.iter().map(line).collect());
}

#[test]
fn a_plain_program_finds_the_same_highest_bids() {
    let mut windows: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for bid in bids() {
        let start = bid.time_us.div_euclid(10_000_000) * 10_000_000;
        let highest = windows.entry(start).or_insert((i64::MIN, 0));
        *highest = (*highest).max((bid.price, -bid.auction));
    }
    let line = |(start, (price, auction)): (&i64, &(i64, i64))| {
        let (from, to) = (instant(*start), instant(start + 10_000_000));
        format!(r#"{{"window_start":"{from}","window_end":"{to}","auction":{},"price":{price}}}"#, -auction)
    };
    check_answer("q7", windows.iter().map(line).collect());
}

/// What auctions were closed at: seller, category, when, id, price.
fn closed() -> Vec<[i64; 5]> {
    let select = "SELECT id, seller, category, CAST(date_time AS BIGINT) AS opens, CAST(expires AS BIGINT) AS expires";
    let number = |row: &Value, name: &str| row[name].as_i64().expect("a whole number");
    let mut bids_of: HashMap<i64, Vec<Bid>> = HashMap::new();
    bids().into_iter().for_each(|bid| bids_of.entry(bid.auction).or_default().push(bid));
    let auctions = json_rows(&ORACLE, &format!("{select} FROM auctions"));
    let closed = auctions.iter().filter_map(|auction| {
        let id = number(auction, "id");
        let open = number(auction, "opens")..=number(auction, "expires");
        let bids = bids_of.get(&id)?.iter().filter(|bid| open.contains(&bid.time_us));
        let price = bids.map(|bid| bid.price).max()?;
        Some([number(auction, "seller"), number(auction, "category"), *open.end(), id, price])
    });
    closed.collect()
}

fn mean(prices: &[i64]) -> Value {
    json!(prices.iter().sum::<i64>() as f64 / prices.len() as f64)
}

#[test]
fn a_plain_program_finds_the_same_closing_prices() {
    let mut prices: HashMap<i64, Vec<i64>> = HashMap::new();
    closed().iter().for_each(|[_, category, _, _, price]| prices.entry(*category).or_default().push(*price));
    let line =
        |(category, prices): (&i64, &Vec<i64>)| format!(r#"{{"category":{category},"average":{}}}"#, mean(prices));
    check_answer("q4", prices.iter().map(line).collect());
}

#[test]
fn a_plain_program_finds_the_same_selling_prices() {
    let mut sales: HashMap<i64, Vec<(i64, i64, i64)>> = HashMap::new();
    closed()
        .iter()
        .for_each(|[seller, _, when, id, price]| sales.entry(*seller).or_default().push((*when, *id, *price)));
    assert!(sales.values().any(|sales| sales.len() > 10), "nobody sells more than is counted");
    let line = |(seller, sales): (&i64, &Vec<(i64, i64, i64)>)| {
        let mut sales = sales.clone();
        sales.sort_unstable();
        let last: Vec<i64> = sales.iter().rev().take(10).map(|(_, _, price)| *price).collect();
        format!(r#"{{"seller":{seller},"average":{}}}"#, mean(&last))
    };
    check_answer("q6", sales.iter().map(line).collect());
}

#[test]
fn a_plain_program_selects_the_same_offers() {
    let some = bids().into_iter().filter(|bid| bid.auction % 123 == 0);
    check_answer("q2", some.map(|bid| format!(r#"{{"auction":{},"price":{}}}"#, bid.auction, bid.price)).collect());
}

#[test]
fn a_plain_program_finds_the_same_local_items() {
    let persons = json_rows(&ORACLE, "SELECT id, name, city, state FROM persons");
    let person_of: HashMap<i64, &Value> =
        persons.iter().filter_map(|person| Some((person["id"].as_i64()?, person))).collect();
    let auctions = json_rows(&ORACLE, "SELECT id, seller FROM auctions WHERE category = 10");
    let line = |auction: &Value| {
        let person = person_of.get(&auction["seller"].as_i64()?)?;
        let is_local = ["OR", "ID", "CA"].iter().any(|state| person["state"] == *state);
        let (name, city, state) = (&person["name"], &person["city"], &person["state"]);
        is_local.then(|| format!(r#"{{"name":{name},"city":{city},"state":{state},"auction":{}}}"#, auction["id"]))
    };
    check_answer("q3", auctions.iter().filter_map(line).collect());
}

#[test]
fn a_plain_program_finds_the_same_new_users() {
    let window = |row: &Value| row["time_us"].as_i64().expect("a whole number").div_euclid(10_000_000) * 10_000_000;
    let mut opened: HashMap<(i64, Option<i64>), u32> = HashMap::new();
    for auction in json_rows(&ORACLE, "SELECT seller, CAST(date_time AS BIGINT) AS time_us FROM auctions") {
        *opened.entry((window(&auction), auction["seller"].as_i64())).or_default() += 1;
    }
    let line = |person: &Value| {
        let start = window(person);
        let n = opened.get(&(start, person["id"].as_i64()))?;
        let (from, to, id, name) = (instant(start), instant(start + 10_000_000), &person["id"], &person["name"]);
        Some(format!(r#"{{"id":{id},"name":{name},"window_start":"{from}","window_end":"{to}","auctions":{n}}}"#))
    };
    let persons = json_rows(&ORACLE, "SELECT id, name, CAST(date_time AS BIGINT) AS time_us FROM persons");
    check_answer("q8", persons.iter().filter_map(line).collect());
}

/// The queries whose job files are run and compared with the oracle.
const JOBS: &[&str] = &["q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "q8"];

/// Runs an example, its rows written to files, and returns them as sorted lines.
fn run_example(query: &str, way: &str) -> Vec<String> {
    let place = folder();
    let out = place.path().join("out");
    let mut command = Command::new(binary());
    command.arg("run").arg(project().join(format!("examples/nexmark/{query}.toml")));
    command.args(["--set", "sink.out.type=file", "--set", &format!("sink.out.path={}", out.display()), "--set", way]);
    command.env("NEXMARK_EVENTS", EVENTS.to_string()).env("NEXMARK_RATE", RATE.to_string());
    let ended = Running::spawn(command).wait();
    assert_eq!(ended.code(), 0, "{query} {way}: {}", ended.stderr);
    written_lines(&out)
}

#[test]
fn jobs_give_what_the_queries_give() {
    for query in JOBS {
        // In batches of different sizes, and so with other rows in each: the answer is the same.
        let source = if ["q3", "q8"].contains(query) { "auctions" } else { "bids" };
        let in_pieces = format!("source.{source}.events-per-batch=7001");
        for way in ["job.partitions=3", &in_pieces, "job.trigger=continuous"] {
            let (seen, expected) = (run_example(query, way), ORACLE.answer(query));
            assert_eq!(seen.len(), expected.len(), "{query} {way}");
            assert!(
                seen == expected,
                "{query} {way}: {:?}",
                seen.iter().zip(&expected).find(|(seen, line)| seen != line)
            );
        }
    }
}

#[test]
fn a_job_can_be_checked_and_says_what_world_it_reads() {
    let ended = run(&project(), &["check", "examples/nexmark/q0.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let source =
        "nexmark bids, seed 42, 10000 events a second from 2026-01-01T00:00:00Z, as fast as they are taken, 92000 rows";
    assert!(ended.stdout.contains(source), "{}", ended.stdout);
}
