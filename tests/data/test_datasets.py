from pathlib import Path

import numpy as np
import pytest

from recs_core.contract.errors import DataError
from recs_core.data.interactions import Interactions
from recs_core.datasets import load, names, online_retail, summary
from recs_core.datasets.synthetic import generate


def test_names_and_unknown_ones():
    assert names() == ["online-retail", "report", "synthetic", "movielens-100k"]
    for ask in (load, summary):
        with pytest.raises(DataError, match=r"'retail'.*online-retail"):
            ask("retail")
    assert all(summary(name) for name in names())
    with pytest.raises(DataError, match=r"'size'.*num_queries"):
        load("synthetic", size=3)
    with pytest.raises(DataError, match=r"'seed'.*none"):
        load("report", seed=3)


# online-retail


@pytest.fixture(scope="module")
def retail():
    return load("online-retail")


def test_online_retail_is_whole(retail):
    assert (len(retail), len(retail.query_ids), len(retail.candidate_ids)) == (266_226, 4_335, 3_659)
    assert (retail.query_name, retail.candidate_name, retail.timestamp_name) == ("customer_id", "item_id", "time")
    assert retail.candidates.column_names == ["item_id", "description", "price"]
    assert retail.queries.column_names == ["customer_id", "country"]
    assert retail.candidates.to_pylist()[0] == {
        "item_id": "21730",
        "description": "GLASS STAR FROSTED T-LIGHT HOLDER",
        "price": 4.95,
    }
    assert retail.timestamps[0] == 21_519_866 * 60  # 2010-12-01 08:26
    assert "84029E" in retail.candidate_ids.ids.to_pylist()
    assert sum(column.null_count for table in (retail.queries, retail.candidates) for column in table.columns) == 0


def test_online_retail_follows_the_published_protocol(retail):
    core = retail.filter(min_per_query=5, min_per_candidate=5)
    assert (len(core), len(core.query_ids), len(core.candidate_ids)) == (264_514, 4_074, 3_145)
    train, test = core.split(by="time", at="2011-11-10", known_only=True)
    assert len(train) == 230_517
    assert np.count_nonzero(train.candidate_counts()) == 3_128
    assert len(test) == 25_569
    assert np.count_nonzero(test.query_counts()) == 1_257


def test_online_retail_is_small_and_attributed():
    folder = Path(online_retail.__file__).parent
    assert sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) < 1_200_000
    text = (folder / "ATTRIBUTION.md").read_text()
    for part in ("Chen, Daqing", "UCI Machine Learning Repository", "10.24432/C5BW33", "CC BY 4.0", "What was changed"):
        assert part in text


# report


def test_report_is_drawn_as_the_report_draws_it():
    # The report's own loop, on the global generator.
    state = np.random.get_state()
    np.random.seed(42)
    users, movies, ratings = [], [], []
    for user in range(10):
        for movie in np.random.choice(20, size=5, replace=False):
            users.append(str(user))
            movies.append(str(movie))
            ratings.append(float(np.random.randint(1, 6)))
    np.random.set_state(state)
    data = load("report")
    assert data.to_table().to_pydict() == {"user_id": users, "movie_id": movies, "rating": ratings}
    assert np.array_equal(np.random.get_state()[1], state[1])


def test_report_never_draws_movies_6_and_14():
    data = load("report")
    assert (len(data), len(data.query_ids), len(data.candidate_ids)) == (50, 10, 20)
    cold = data.candidate_ids.decode(np.flatnonzero(data.candidate_counts() == 0)).to_pylist()
    assert cold == ["6", "14"]


# synthetic


def test_synthetic_has_the_sizes_asked_for_and_no_repeats():
    data = load("synthetic", num_queries=50, num_candidates=40, num_interactions=400, dim=3)
    assert (len(data), len(data.query_ids), len(data.candidate_ids)) == (400, 50, 40)
    assert len(set(zip(data.query_codes, data.candidate_codes, strict=True))) == 400
    assert np.all(np.diff(data.timestamps) >= 0)
    assert data.queries.column_names == ["query_id", "segment", "age"]
    assert data.candidates.column_names == ["candidate_id", "category", "title", "price"]


def test_synthetic_is_seeded():
    size = {"num_queries": 30, "num_candidates": 30, "num_interactions": 100}
    first = load("synthetic", **size, seed=1).digest()
    np.random.seed(5)
    assert load("synthetic", **size, seed=1).digest() == first
    assert load("synthetic", **size, seed=2).digest() != first


def test_synthetic_truth_ranks_what_was_taken():
    made = generate(num_queries=300, num_candidates=200, num_interactions=3_000, dim=4, zipf=0.5)
    data = made.interactions
    scores = made.scores(data.query_codes)
    rank = np.sum(scores > scores[np.arange(len(data)), data.candidate_codes][:, None], axis=1)
    by_popularity = np.sum(made.popularity > made.popularity[data.candidate_codes][:, None], axis=1)
    # By chance the mean rank is 99.5; the truth must beat both that and popularity by far.
    assert rank.mean() < 30
    assert rank.mean() < 0.6 * by_popularity.mean()
    assert np.linalg.norm(made.query_vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert made.popularity.sum() == pytest.approx(1)


def test_synthetic_popularity_follows_zipf():
    made = generate(num_queries=100_000, num_candidates=100, num_interactions=20_000, zipf=1.0, taste=0.0)
    counts = made.interactions.candidate_counts()[np.argsort(-made.popularity)]
    # rank 1 against ranks 8 to 12: by the law 1 to about 0.102 each; so many queries hardly repeat a pair
    assert counts[0] / counts[7:12].mean() == pytest.approx(1 / np.mean(1 / np.arange(8, 13)), rel=0.15)


def test_synthetic_features_tell_of_the_latent_space():
    made = generate(num_queries=10, num_candidates=500, num_interactions=50, dim=4)
    category = np.array(made.interactions.candidates["category"].to_pylist())
    vectors = made.candidate_vectors
    same = category[:, None] == category[None, :]
    cosine = vectors @ vectors.T
    assert cosine[same].mean() > cosine[~same].mean() + 0.3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_queries": 0}, "num_queries"),
        ({"dim": 1.5}, "dim"),
        ({"zipf": float("nan")}, "zipf"),
        ({"num_queries": 50, "num_candidates": 50, "num_interactions": 600, "zipf": 9.0}, "used up"),
        ({"num_queries": 10, "num_candidates": 10, "num_interactions": 26}, "a quarter of the 100 pairs"),
    ],
)
def test_synthetic_refusals(options, words):
    with pytest.raises(DataError, match=words):
        load("synthetic", **options)


# movielens-100k, in files made by hand in both layouts


@pytest.fixture
def grouplens(tmp_path):
    flags = {
        "Toy Story (1995)": "0|0|0|1|1|1" + "|0" * 13,
        "unknown": "1" + "|0" * 18,
        "Caf\xe9 (1996)": "0" + "|0" * 18,
    }
    lines = [f"{number}|{title}|01-Jan-1995||http://x|{on}\n" for number, (title, on) in enumerate(flags.items(), 1)]
    (tmp_path / "u.item").write_bytes("".join(lines).encode("latin-1"))
    (tmp_path / "u.user").write_text("1|24|M|technician|85711\n2|53|F|other|T8H1N\n")
    (tmp_path / "u.data").write_text("2\t3\t4\t881250949\n1\t1\t5\t881250950\n")
    return tmp_path


@pytest.fixture
def recbole(tmp_path):
    (tmp_path / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tToy Story\t1995\tAnimation Children's Comedy\n2\tunknown\tV\tunknown\n3\tCaf\xe9\t1996\t\n",
        encoding="utf-8",
    )
    (tmp_path / "ml-100k.user").write_text(
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        "1\t24\tM\ttechnician\t85711\n2\t53\tF\tother\tT8H1N\n"
    )
    (tmp_path / "ml-100k.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n2\t3\t4\t881250949\n1\t1\t5\t881250950\n"
    )
    return tmp_path


@pytest.mark.parametrize("layout", ["grouplens", "recbole"])
def test_movielens_reads_both_layouts_alike(layout, request):
    data = load("movielens-100k", path=request.getfixturevalue(layout))
    assert isinstance(data, Interactions)
    assert data.to_table().to_pydict() == {
        "user_id": [2, 1],
        "movie_id": [3, 1],
        "timestamp": [881250949.0, 881250950.0],
        "rating": [4, 5],
    }
    assert data.candidates.to_pydict() == {
        "movie_id": [3, 1, 2],
        "title": ["Café", "Toy Story", "unknown"],
        "year": [1996, 1995, None],
        "genres": [[], ["Animation", "Children's", "Comedy"], ["unknown"]],
    }
    assert data.queries.to_pydict() == {
        "user_id": [2, 1],
        "age": [53, 24],
        "gender": ["F", "M"],
        "occupation": ["other", "technician"],
        "zip_code": ["T8H1N", "85711"],
    }


def test_movielens_says_where_to_get_it(tmp_path):
    for options in ({}, {"path": tmp_path}, {"path": tmp_path / "nowhere"}):
        with pytest.raises(DataError, match=r"grouplens\.org.*path="):
            load("movielens-100k", **options)


def test_movielens_names_the_damaged_or_missing_file(grouplens):
    (grouplens / "u.item").unlink()
    with pytest.raises(DataError, match=r"u\.item"):
        load("movielens-100k", path=grouplens)
    (grouplens / "u.data").write_text("1\t2\n")
    (grouplens / "u.item").write_text("")
    with pytest.raises(DataError, match=r"u\.data"):
        load("movielens-100k", path=grouplens)
