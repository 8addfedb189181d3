import codecs
import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from recs_core.contract.errors import DataError
from recs_core.data.interactions import Interactions
from recs_core.tables.csv_files import NULL_WORDS, SUFFIXES

ROWS = [("user", "item", "name"), ("7", "a", "Zoë, née Smith"), ("8", "b", "x"), ("7", "b", "x")]


def lines(delimiter=",", rows=ROWS):
    def field(text):
        return f'"{text}"' if delimiter in text else text

    return "".join(delimiter.join(map(field, row)) + "\n" for row in rows)


def read(path, content, **options):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Interactions.from_table(path, query="user", candidate="item", **options)


def assert_is_rows(data):
    columns = {name: list(column) for name, *column in zip(*ROWS, strict=True)}
    assert data.to_table().to_pydict() == columns | {"user": [7, 8, 7]}


def refused(make):
    with pytest.raises(DataError) as caught:
        make()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "||", "::"])
@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.txt", "x.dat"])
def test_the_usual_delimiters_are_recognised(tmp_path, name, delimiter):
    assert_is_rows(read(tmp_path / name, lines(delimiter)))


def test_each_file_has_a_delimiter_of_its_own(tmp_path):
    (tmp_path / "items.csv").write_text("item;price\na;1\nb;2\n")
    data = read(tmp_path / "x.csv", lines(), candidates=tmp_path / "items.csv")
    assert data.candidates.to_pydict() == {"item": ["a", "b"], "price": [1, 2]}


@pytest.mark.parametrize("delimiter", ["^", "~#", "§"])
def test_any_other_delimiter_is_told(tmp_path, delimiter):
    message = refused(lambda: read(tmp_path / "x.csv", lines(delimiter).replace(", née", "")))
    assert "delimiter=" in message
    assert "--delimiter" in message
    assert_is_rows(read(tmp_path / "x.csv", lines(delimiter), delimiter=delimiter))


def test_a_tab_as_a_shell_hands_it_on(tmp_path):
    assert_is_rows(read(tmp_path / "x.csv", lines("\t"), delimiter="\\t"))


def test_the_line_that_excel_reads_first(tmp_path):
    assert_is_rows(read(tmp_path / "x.csv", "sep=^\r\n" + lines("^")))


def test_a_file_without_names_of_columns_is_told_so(tmp_path):
    assert "first line" in refused(lambda: read(tmp_path / "x.dat", "1::1193::5::978300760\n1::661::3::978302109\n"))


@pytest.mark.parametrize(
    "content",
    [
        codecs.BOM_UTF8 + lines().encode(),
        lines().encode("utf-16"),
        codecs.BOM_UTF16_BE + lines().encode("utf-16-be"),
        lines().encode("utf-16-le"),
        lines().encode("utf-16-be"),
        lines().encode("utf-32"),
        lines().replace("\n", "\r\n").encode(),
    ],
    ids=["utf-8 with a mark", "utf-16", "utf-16-be", "utf-16-le, no mark", "utf-16-be, no mark", "utf-32", "crlf"],
)
def test_encodings_that_say_what_they_are(tmp_path, content):
    assert_is_rows(read(tmp_path / "x.csv", content))
    assert_is_rows(read(tmp_path / "x.csv.gz", gzip.compress(content)))


def test_an_encoding_that_does_not_is_refused_with_what_to_type(tmp_path):
    content = lines().encode("latin-1")
    message = refused(lambda: read(tmp_path / "x.csv", content))
    for words in ("x.csv", "line 2", "0xeb", "encoding='latin-1'", "--encoding latin-1"):
        assert words in message
    assert_is_rows(read(tmp_path / "x.csv", content, encoding="latin-1"))


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_wrong_encoding_is_refused(tmp_path, encoding):
    assert encoding.upper() in refused(lambda: read(tmp_path / "x.csv", lines().encode("latin-1"), encoding=encoding))


@pytest.mark.parametrize("word", ["", *NULL_WORDS])
@pytest.mark.parametrize("quote", ["", '"'])
def test_a_missing_id_is_refused_and_never_a_user(tmp_path, word, quote):
    message = refused(lambda: read(tmp_path / "x.csv", f"user,item\n1,10\n2,11\n{quote}{word}{quote},12\n"))
    for words in ("x.csv", "'user'", "row 2", "null_values=()", "--null ''"):
        assert words in message


def test_a_missing_id_of_a_side_table_is_refused(tmp_path):
    (tmp_path / "items.csv").write_text("item,price\na,1\nNULL,2\n")
    message = refused(lambda: read(tmp_path / "x.csv", lines(), candidates=tmp_path / "items.csv"))
    assert "items.csv, column 'item': null id in row 1" in message


def test_words_that_are_real(tmp_path):
    content = "user,item\nNA,10\nNULL,11\n-,12\n"
    assert read(tmp_path / "x.csv", content, null_values=()).query_ids.ids.to_pylist() == ["NA", "NULL", "-"]
    assert "row 2" in refused(lambda: read(tmp_path / "x.csv", content, null_values=["-"]))
    assert "row 1" in refused(lambda: read(tmp_path / "x.csv", "user,item\n1,1\n,2\n", null_values=()))


@pytest.mark.parametrize("word", ["", *NULL_WORDS])
def test_a_missing_feature_is_null(tmp_path, word):
    (tmp_path / "items.csv").write_text(f"item,kind,price\na,{word},{word}\nb,x,2\n")
    data = read(tmp_path / "x.csv", lines(), candidates=tmp_path / "items.csv")
    assert data.candidates.to_pydict() == {"item": ["a", "b"], "kind": [None, "x"], "price": [None, 2]}


@pytest.mark.parametrize(
    ("between", "field", "values"),
    [
        ("|", "drama|comedy", ["drama", "comedy"]),
        ("|", " drama | film noir ", ["drama", "film noir"]),
        ("|", "drama||comedy|", ["drama", "comedy"]),
        ("|", "7|007", ["7", "007"]),
        ("|", "7", ["7"]),
        ("|", "", []),
        ("|", "NULL", []),
        ("|", " | ", []),
        ("|", "NULL|a", ["NULL", "a"]),
        (" ", "a  b", ["a", "b"]),
        (" - ", "a-b - c", ["a-b", "c"]),
        ("\\t", "a\tb", ["a", "b"]),
        (", ", '"é, ß"', ["é", "ß"]),
    ],
)
def test_lists_of_what_lies_between_signs(tmp_path, between, field, values):
    (tmp_path / "items.csv").write_text(f"item,tags\nb,{field}\na,x\n")
    data = read(tmp_path / "x.csv", lines(), candidates=tmp_path / "items.csv", lists={"tags": between})
    assert data.candidates.to_pydict() == {"item": ["a", "b"], "tags": [["x"], values]}
    assert data.candidates.schema.field("tags").type == pa.list_(pa.string())


def test_lists_of_every_file_that_has_the_column(tmp_path):
    (tmp_path / "items.csv").write_text("item;tags\na;1|2\n")
    (tmp_path / "users.csv").write_text("user,tags\n7,3|4\n")
    files = {"candidates": tmp_path / "items.csv", "queries": tmp_path / "users.csv"}
    data = read(tmp_path / "x.csv", "user,item,tags\n7,a,5|6\n8,a,\n", lists={"tags": "|"}, **files)
    assert data.candidates["tags"].to_pylist() == [["1", "2"]]
    assert data.queries["tags"].to_pylist() == [["3", "4"], None]  # no row of that table, so nothing is known
    assert data.extra["tags"].to_pylist() == [["5", "6"], []]


def test_lists_in_thousands_of_rows(tmp_path):
    rows = [[str(n) for n in range(row % 4)] for row in range(30_000)]
    content = "user,item,tags\n" + "".join(f"{row},a,{'; '.join(values)}\n" for row, values in enumerate(rows))
    assert read(tmp_path / "x.csv", content, lists={"tags": ";"}, delimiter=",").extra["tags"].to_pylist() == rows


def test_integers_beyond_int64_are_text(tmp_path):
    hashes = [2**64 - 1, 2**63 + 1]
    content = "user,item,hash\n" + "".join(f"{h},1,{h}\n" for h in hashes)
    data = read(tmp_path / "x.csv", content)
    assert data.query_ids.ids.to_pylist() == data.extra["hash"].to_pylist() == [str(h) for h in hashes]


def test_a_field_of_several_lines_or_megabytes(tmp_path):
    long = "word " * 600_000
    content = "user,item,name\n" + "".join(f'{row},a,"two\nlines"\n' for row in range(50_000)) + f"1,b,{long}\n"
    data = read(tmp_path / "x.csv", content)
    assert len(data) == 50_001
    assert data.extra["name"][0].as_py() == "two\nlines"
    assert data.extra["name"][-1].as_py() == long


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoding": "latin-eins"}, "encoding: 'latin-eins'"),
        ({"encoding": "base64"}, "encoding: 'base64'"),
        ({"encoding": 1}, "encoding: 1"),
        ({"delimiter": ""}, "delimiter: "),
        ({"delimiter": "\n"}, "delimiter: "),
        ({"delimiter": 3}, "delimiter: "),
        ({"null_values": "NA"}, "null_values: must be a list of words"),
        ({"null_values": [None]}, "null_values: must be a list of words"),
        ({"lists": "name=|"}, "lists: must be columns and what lies between their values"),
        ({"lists": {1: "|"}}, "lists: must be columns and what lies between their values"),
        ({"lists": {"name": ""}}, "lists: between the values of 'name' lies text"),
        ({"lists": {"name": None}}, "lists: between the values of 'name' lies text"),
        ({"lists": {"nam": "|"}}, "lists: no CSV file given has a column 'nam'; there is 'item', 'name', 'user'"),
        ({"lists": {"item": "|"}}, "lists: 'item' holds one id or time in each row, and no lists"),
    ],
)
def test_options_that_cannot_be_meant(tmp_path, options, words):
    assert words in refused(lambda: read(tmp_path / "x.csv", lines(), **options))


@pytest.mark.parametrize(
    "option", [{"encoding": "utf-8"}, {"delimiter": ";"}, {"null_values": ()}, {"lists": {"b": "|"}}]
)
def test_options_that_no_table_can_use(option):
    table = {"user": ["a"], "item": ["b"]}
    assert "no table given is one" in refused(
        lambda: Interactions.from_table(table, query="user", candidate="item", **option)
    )


def test_the_page_states_every_word_and_every_kind_of_file():
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith("| missing")]
    stated = row.split("|")[2].replace("`", "").removeprefix(" the empty field and ").strip().split(", ")
    assert stated == list(NULL_WORDS)
    assert all(suffix.endswith(".gz") or f"`{suffix}`" in page for suffix in SUFFIXES)
