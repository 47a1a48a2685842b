"""The SDK without WebAssembly: views and builders against each other, and every kind of operator."""

import datetime
import random
import sys
import unittest
from array import array
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Iterator, Optional

SDK = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(SDK))

from tidemill_guest import (  # noqa: E402
    Batch,
    Call,
    ConfigRefusal,
    DurationUs,
    Failure,
    Float32,
    Groups,
    Int16,
    Output,
    Refusal,
    Reject,
    Rows,
    SchemaRefusal,
    State,
    TimestampUs,
    UInt64,
    Writer,
    aggregator,
    column,
    decimal128,
    fixed_size_binary,
    grouper,
    operator,
    reducer,
    testing,
    updater,
)
from tidemill_guest.batch import RowReader, rows_to_batch  # noqa: E402
from tidemill_guest.bits import prefix_sums  # noqa: E402
from tidemill_guest.config import parse_duration, read_config  # noqa: E402
from tidemill_guest.hints import HintError, row_of  # noqa: E402


@dataclass
class Place:
    lat: float
    name: Optional[str]


@dataclass
class Everything:
    flag: Optional[bool]
    small: Int16
    whole: Optional[int]
    large: UInt64
    single: Float32
    text: Optional[str]
    raw: bytes
    key: Annotated[bytes, fixed_size_binary(3)]
    day: Optional[datetime.date]
    at: datetime.datetime
    at_us: TimestampUs
    length: datetime.timedelta
    length_us: DurationUs
    price: Optional[Annotated[Decimal, decimal128(12, 2)]]
    words: list[Optional[str]]
    lists: Optional[list[list[int]]]
    place: Optional[Place]
    counts: dict[str, Optional[int]]
    other: str = column("other-name")


def everything(rng: random.Random) -> Everything:
    maybe = lambda value: None if rng.random() < 0.3 else value  # noqa: E731
    text = lambda: "".join(rng.choice("aé汉😀 b") for _ in range(rng.randrange(4)))  # noqa: E731
    at = datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone.utc) + datetime.timedelta(microseconds=rng.randrange(10**12))
    return Everything(
        maybe(rng.random() < 0.5),
        rng.randrange(-(1 << 15), 1 << 15),
        maybe(rng.randrange(-(1 << 63), 1 << 63)),
        rng.randrange(1 << 64),
        rng.randrange(1000) / 8,
        maybe(text()),
        bytes(rng.randrange(256) for _ in range(rng.randrange(3))),
        bytes(rng.randrange(256) for _ in range(3)),
        maybe(at.date()),
        at,
        rng.randrange(-(1 << 63), 1 << 63),
        datetime.timedelta(microseconds=rng.randrange(-(10**9), 10**9)),
        rng.randrange(-(1 << 63), 1 << 63),
        maybe(Decimal(rng.randrange(-(10**12) + 1, 10**12)).scaleb(-2)),
        [maybe(text()) for _ in range(rng.randrange(3))],
        maybe([[rng.randrange(9) for _ in range(rng.randrange(3))] for _ in range(rng.randrange(3))]),
        maybe(Place(rng.random(), maybe(text()))),
        {text(): maybe(rng.randrange(9)) for _ in range(rng.randrange(3))},
        text(),
    )


class Values(unittest.TestCase):
    def test_rows_come_back_as_they_went(self):
        rng = random.Random(7)
        for n_rows in (0, 1, 7, 8, 9, 64, 1500):
            rows = [everything(rng) for _ in range(n_rows)]
            schema, raw = rows_to_batch(Everything, rows)
            testing.check(schema, raw)
            reader = RowReader(row_of(Everything), Batch(schema, raw))
            self.assertEqual([row for _, block in reader.blocks() for row in block], rows)

    def test_columns_are_appended_whole_and_in_pieces(self):
        rng = random.Random(8)
        rows = [everything(rng) for _ in range(100)]
        schema, raw = rows_to_batch(Everything, rows)
        batch = Batch(schema, raw)
        writer = Writer(schema)
        taken = [rng.randrange(100) for _ in range(37)]
        for own, other in zip(writer.builders, batch.columns):
            own.extend_column(other)
            own.extend_taken(other, taken)
            own.extend_column(other)
            own.extend(other.to_list(10, 20))
        again = writer.finish()
        testing.check(schema, again)
        expected = batch.to_dicts()
        expected = expected + [expected[row] for row in taken] + expected + expected[10:20]
        self.assertEqual(Batch(schema, again).to_dicts(), expected)

    def test_what_does_not_fit_is_said(self):
        rng = random.Random(9)
        for change, words in (
            ({"small": 1 << 15}, "column `small` of type int16"),
            ({"text": 5}, "column `text` of type utf8"),
            ({"price": Decimal("0.001")}, "more than 2 digits behind the point"),
            ({"price": Decimal(10**10)}, "more than 12 digits"),
            ({"key": b"four"}, "a value has 4 bytes"),
            ({"raw": None}, "may not be null"),
            ({"at": datetime.datetime(2024, 1, 1)}, "has no zone"),
        ):
            row = everything(rng)
            for name, value in change.items():
                setattr(row, name, value)
            with self.assertRaises(Failure) as raised:
                rows_to_batch(Everything, [row])
            self.assertIn(words, str(raised.exception))

    def test_types_that_no_column_has_are_told_when_the_module_is_loaded(self):
        @dataclass
        class Wrong:
            price: Decimal

        with self.assertRaisesRegex(HintError, "does not say which type is written"):
            row_of(Wrong).schema()


@dataclass
class Line:
    value: str


@dataclass
class MaybeLine:
    value: Optional[str]


@dataclass
class Word:
    word: str


@operator
def by_row(line: Line) -> Iterator[Word]:
    """Rust's `split_ascii_whitespace`, as it is written down."""
    word = ""
    for character in line.value + " ":
        if character in " \t\n\x0c\r":
            if word:
                yield Word(word)
            word = ""
        else:
            word += character


@operator
def by_column(lines: Batch[Line], out: Output[Word]) -> None:
    out.word.extend(lines.value.split_words())


@operator
def by_unicode(lines: Batch[MaybeLine], out: Output[Word]) -> None:
    out.word.extend(lines.value.split_words(unicode=True))


class Text(unittest.TestCase):
    def test_words_are_the_same_by_row_and_by_column(self):
        rng = random.Random(10)
        for alphabet in ("ab ", "ab \t\n\x0b\x0c\r", "aé汉\u00a0\u2003 \t\x1c\x85"):
            lines = [Line("".join(rng.choice(alphabet) for _ in range(rng.randrange(12)))) for _ in range(5000)]
            expected = testing.transform(by_row, lines).rows
            self.assertEqual(testing.transform(by_column, lines).rows, expected)

    def test_ends_are_sums_of_lengths(self):
        rng = random.Random(11)
        for n_lengths in (0, 1, 2, 3, 1000):
            lengths = [rng.randrange(256) for _ in range(n_lengths)]
            expected = array("i", list(accumulate(lengths, initial=70_000))[1:])
            self.assertEqual(prefix_sums(bytes(lengths), 70_000), expected.tobytes())
        lines = [Line("a " + "b" * 255), Line("c" * 256 + " d"), Line("e")]
        expected_words = ["a", "b" * 255, "c" * 256, "d", "e"]
        self.assertEqual(testing.transform(by_column, lines).column("word"), expected_words)

    def test_white_space_of_unicode(self):
        lines = [MaybeLine("a\u00a0b\x0bc\x1cd\u2003e"), MaybeLine(None), MaybeLine("f\x0bg h")]
        found = testing.transform(by_unicode, lines).column("word")
        self.assertEqual(found, ["a", "b", "c\x1cd", "e", "f", "g", "h"])
        self.assertEqual(testing.transform(by_unicode, [MaybeLine("f\x0bg h")]).column("word"), ["f", "g", "h"])

    def test_whole_columns(self):
        lines = [MaybeLine("A b,c"), MaybeLine(None), MaybeLine(""), MaybeLine("É,,b")]
        schema, raw = rows_to_batch(MaybeLine, lines)
        value = Batch(schema, raw)["value"]
        self.assertEqual(value.lower().to_list(), ["a b,c", None, "", "é,,b"])
        self.assertEqual(value.split(",").to_list(), ["A b", "c", "", "É", "", "b"])
        self.assertEqual(list(value.split(",").rows()), [[b"A b", b"c"], [], [b""], ["É".encode(), b"", b"b"]])
        self.assertEqual(value.split(",,").to_list(), ["A b,c", "", "É", "b"])
        self.assertEqual((value.contains("b"), value.starts_with("É")), (b"\1\0\0\1", b"\0\0\0\1"))
        self.assertEqual(value.replace("b", "bb").to_list(), ["A bb,c", None, "", "É,,bb"])


@dataclass
class Order:
    id: int
    amount: Optional[float]
    currency: str = column("currency-code")


@dataclass
class Amount:
    amount: float


@dataclass
class Rates:
    dollars_per_euro: float
    least: datetime.timedelta = datetime.timedelta(seconds=1)

    def __post_init__(self):
        if self.dollars_per_euro <= 0:
            raise ValueError("`dollars_per_euro` must be more than 0")


@dataclass
class Converted:
    amount: float
    currency: str = column("currency-code")


@operator(carry="all")
def to_euros(order: Converted, config: Rates, call: Call) -> Optional[Amount]:
    if order.currency == "EUR":
        return Amount(order.amount)
    if order.currency == "USD":
        return Amount(order.amount / config.dollars_per_euro)
    if order.currency == "":
        return None
    raise Reject(f"no rate for `{order.currency}`")


@operator
def is_large(order: Amount) -> bool:
    return order.amount >= 10


@operator
def is_large_by_column(orders: Batch[Amount]) -> bytes:
    return bytes(amount >= 10 for amount in orders.amount.values)


@operator
def broken(order: Amount) -> Amount:
    raise KeyError("oh")


class Transforms(unittest.TestCase):
    def test_rows_are_rejected_and_carried(self):
        orders = [Order(1, 5.0, "EUR"), Order(2, 5.0, "USD"), Order(3, 1.0, ""), Order(4, None, "EUR"), Order(5, 1.0, "GBP")]
        ran = testing.transform(to_euros, orders, {"dollars_per_euro": 1.25})
        self.assertEqual((ran.rows, ran.origin), ([{"amount": 5.0}, {"amount": 4.0}], [0, 1]))
        self.assertEqual(ran.rejected, [(3, "column `amount` is null"), (4, "no rate for `GBP`")])

    def test_filters(self):
        amounts = [Amount(5.0), Amount(10.0), Amount(20.0)]
        self.assertEqual(testing.transform(is_large, amounts).origin, [1, 2])
        self.assertEqual(testing.transform(is_large_by_column, amounts).origin, [1, 2])
        self.assertIsNone(testing.transform(is_large, amounts[1:]).origin)
        self.assertEqual(testing.transform(is_large, [], cls=Amount).rows, [])

    def test_a_bug_fails_the_call_and_says_where(self):
        with self.assertRaisesRegex(Failure, r"KeyError: 'oh' \(test_sdk.py, line \d+, in broken\)"):
            testing.transform(broken, [Amount(1.0)])

    def test_what_does_not_fit_is_refused(self):
        for config, words in (
            ({}, "missing field `dollars_per_euro`"),
            ({"dollars_per_euro": 0}, "`dollars_per_euro` must be more than 0"),
            ({"dollars_per_euro": "1"}, '`dollars_per_euro` is "1", a number is expected'),
            ({"dollars_per_euro": 1, "least": "5"}, "`5` is not a duration, as `30s` and `1h30m` are"),
            ({"rate": 1}, "unknown field `rate`, expected `dollars_per_euro` or `least`"),
        ):
            with self.assertRaises(ConfigRefusal) as raised:
                testing.transform(to_euros, [Order(1, 1.0, "EUR")], config)
            self.assertIn(words, str(raised.exception))
        with self.assertRaisesRegex(SchemaRefusal, "column `amount` is missing, float64 is expected"):
            testing.transform(is_large, [Line("")])
        with self.assertRaisesRegex(SchemaRefusal, "column `value` is float64, utf8 is expected"):
            testing.transform(by_row, [WrongLine(1.0)])

    def test_durations(self):
        for text, us in (("0", 0), ("10ms", 10_000), ("1.5s", 1_500_000), ("1h30m", 5_400_000_000), ("0.0000019s", 1)):
            self.assertEqual(parse_duration(text), datetime.timedelta(microseconds=us), text)
        for text in ("", "5", "s", "30m1h", "1s1s", "1.s", ".5s", "-1s", "1x", "99999999999999d"):
            self.assertRaises(ValueError, parse_duration, text)
        self.assertIsNone(read_config(None, "{}"))


@dataclass
class WrongLine:
    value: float


@dataclass
class Sale:
    count: int
    amount: int


def minus(whole: Sale, part: Sale) -> Sale:
    return Sale(whole.count - part.count, whole.amount - part.amount)


@reducer(invert=minus)
def plus(a: Sale, b: Sale) -> Sale:
    return Sale(a.count + b.count, a.amount + b.amount)


@reducer
def plus_by_column(groups: Groups[Sale], out: Output[Sale]) -> None:
    out.count.extend(groups.count.sum_by(groups.ends))
    out.amount.extend(groups.amount.sum_by(groups.ends))


@dataclass
class Reading:
    degrees: Optional[float]


@dataclass
class Kept:
    total: float
    n: int


@dataclass
class Mean:
    mean: Optional[float]


@aggregator
class MeanOf:
    def start(self) -> Kept:
        return Kept(0.0, 0)

    def add(self, kept: Kept, reading: Reading) -> None:
        if reading.degrees is not None:
            kept.total += reading.degrees
            kept.n += 1

    def merge(self, kept: Kept, other: Kept) -> Kept:
        return Kept(kept.total + other.total, kept.n + other.n)

    def finish(self, kept: Kept) -> Mean:
        return Mean(kept.total / kept.n if kept.n else None)


@aggregator
class MeanByColumn:
    def accumulate(self, groups: Groups[Reading], out: Output[Kept]) -> None:
        out.total.extend([float(total) for total in groups.degrees.sum_by(groups.ends)])
        out.n.extend(groups.degrees.count_by(groups.ends))

    def combine(self, groups: Groups[Kept], out: Output[Kept]) -> None:
        out.total.extend(groups.total.sum_by(groups.ends))
        out.n.extend(groups.n.sum_by(groups.ends))

    def results(self, kept: Batch[Kept], out: Output[Mean]) -> None:
        out.mean.extend([total / n if n else None for total, n in zip(kept.total.values, kept.n.values)])


@dataclass
class Key:
    city: Optional[str]


@dataclass
class City:
    city: str


@grouper
def balance(key: City, orders: Rows[Amount], payments: list[Amount]) -> Optional[Amount]:
    if key.city == "nowhere":
        raise Reject("it is nowhere")
    for index, order in enumerate(orders):
        if order.amount < 0:
            orders.reject(index, "it is negative")
    return Amount(sum(order.amount for order in orders) - sum(payment.amount for payment in payments))


class Keyed(unittest.TestCase):
    def test_reducers(self):
        groups = [[Sale(1, 2), Sale(1, 3), Sale(1, -1)], [Sale(1, 9)]]
        for target in (plus, plus_by_column):
            self.assertEqual(testing.reduce(target, groups).rows, [{"count": 3, "amount": 4}, {"count": 1, "amount": 9}])
        self.assertEqual(testing.invert(plus, [Sale(3, 4)], [Sale(1, 1)]).rows, [{"count": 2, "amount": 3}])

    def test_aggregators(self):
        groups = [[Reading(1.0), Reading(None), Reading(3.0)], [Reading(None)]]
        for target in (MeanOf, MeanByColumn):
            for pieces in (1, 3):
                self.assertEqual(testing.aggregate(target, groups, pieces=pieces).rows, [{"mean": 2.0}, {"mean": None}])

    def test_groupers(self):
        ran = testing.group(
            balance,
            [
                (Key("Oslo"), [Amount(5.0), Amount(-1.0)], [Amount(3.0)]),
                (Key("nowhere"), [Amount(1.0)], [Amount(1.0)]),
                (Key(None), [], [Amount(1.0)]),
                (Key("Rome"), [], [Amount(2.0)]),
            ],
        )
        self.assertEqual((ran.rows, ran.origin), ([{"amount": 1.0}, {"amount": -2.0}], [0, 3]))
        expected = [(1, "it is negative"), (2, "it is nowhere"), (4, "it is nowhere"), (5, "key column `city` is null")]
        self.assertEqual(ran.rejected, expected)
        with self.assertRaisesRegex(Refusal, "it groups 2 inputs, and the step has 1"):
            testing.group(balance, [(Key("Oslo"), [Amount(1.0)])])


@dataclass
class Beat:
    volts: float


@dataclass
class Last:
    volts: float
    seen: TimestampUs


@updater(timeouts="batch-time")
def silence(rows: list[Beat], state: State[Last], call: Call) -> Optional[Last]:
    if state.timed_out:
        last = state.get()
        state.remove()
        return last
    if rows:
        state.set(Last(rows[-1].volts, call.batch_time_us))
        state.set_timeout_after(datetime.timedelta(seconds=60))
    return None


@updater
def careless(rows: list[Beat], state: State[Last]) -> Optional[Last]:
    state.set_timeout(5)
    return None


class Updaters(unittest.TestCase):
    def test_state_and_timeouts(self):
        batches = testing.Updates(silence, City, Beat)
        oslo, rome = City("Oslo"), City("Rome")
        self.assertEqual(batches.run(0, [(oslo, [Beat(1.0), Beat(2.0)]), (rome, [Beat(3.0)])]).rows, [])
        self.assertEqual(batches.state(oslo), {"volts": 2.0, "seen": 0})
        self.assertEqual(batches.timeout_us(oslo), 60_000_000)
        self.assertEqual(batches.run(30_000_000, [(rome, [Beat(4.0)])]).rows, [])
        self.assertEqual(batches.run(60_000_000, []).rows, [{"volts": 2.0, "seen": 0}])
        self.assertEqual((batches.state(oslo), batches.state(rome)), (None, {"volts": 4.0, "seen": 30_000_000}))

    def test_a_timeout_needs_state_and_a_clock(self):
        with self.assertRaisesRegex(Failure, "without `timeouts="):
            testing.Updates(careless, City, Beat).run(0, [(City("Oslo"), [Beat(1.0)])])


class Contract(unittest.TestCase):
    def test_the_text_is_that_of_the_project(self):
        project = SDK.parent.parent / "wit" / "v0.1"
        own = SDK / "tidemill_guest" / "wit" / "v0.1"
        files = sorted(file.name for file in project.glob("*.wit"))
        self.assertEqual(files, sorted(file.name for file in own.glob("*.wit")))
        for name in files:
            self.assertEqual((own / name).read_text(), (project / name).read_text(), name)


if __name__ == "__main__":
    unittest.main()
