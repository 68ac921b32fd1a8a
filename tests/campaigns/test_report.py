"""The report of a campaign: everything on one page, harmless, bounded, and right."""

from __future__ import annotations

import html
import json
import re
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from campaign_folders import CLASSES, finish_campaign, make_tomogram, write_state

from deepfinder_dask.campaigns import write_report
from deepfinder_dask.campaigns.reporting.digests import KEPT, Digest, digest_of, make_digest
from deepfinder_dask.campaigns.reporting.outliers import find_outliers, robust_z
from deepfinder_dask.campaigns.reporting.states import read_campaign
from deepfinder_dask.cli import main
from deepfinder_dask.errors import InputError, SettingsError
from deepfinder_dask.particles import Particles

EVIL = "<script>alert(1)<／script>"
"""A name that may stand in a path; what a browser makes of it must be text."""
REASON = "</script><script>document.title='broken in'</script><img src=x onerror=alert(1)> & \"quotes\""


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """Eight tomograms, one of them without ribosomes to speak of, and one of each other state."""
    folder = tmp_path_factory.mktemp("campaign") / "cells"
    for number in range(8):
        make_tomogram(folder, f"TS_{number}", number=number, counts=(2, 9) if number == 5 else (30 + number % 3, 10))
    write_state(folder / "tomograms" / EVIL, EVIL, "failed", stage="convert", attempts=3, reason=REASON)
    write_state(folder / "tomograms" / "TS_q", "TS_q", "quarantined", stage="segment", reason="3 workers died")
    write_state(folder / "tomograms" / "TS_r", "TS_r", "running", stage="segment")
    write_state(folder / "tomograms" / "TS_p", "TS_p", "pending", attempts=0)
    finish_campaign(folder, {"name": f"cells {EVIL}", "settings": {"segment": {"precision": EVIL}}, "file": "c.toml"})
    return folder


@pytest.fixture(scope="module")
def page(campaign):
    return write_report(campaign).read_text("utf-8")


class Page(HTMLParser):
    """Elements and text of a page, as a browser would take them apart."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    def of(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def rows_of(text):
    """Cells of the campaign table by name: (state, ribosomes, proteasomes, particles, F1, seconds)."""
    table = text[text.index('<table id="table">') :].split("</table>")[0]
    rows = re.findall(r"<tr data-row=.*?</tr>", table, re.DOTALL)
    cells = [[html.unescape(v) for v in re.findall(r'data-v="([^"]*)"', row)] for row in rows]
    return {name: rest for name, *rest in cells}


def test_the_table_says_what_is_in_the_particle_lists(campaign, page):
    rows = rows_of(page)
    assert len(rows) == 12
    for number in range(8):
        folder = campaign / "tomograms" / f"TS_{number}"
        counts = Particles.read(folder / "particles.parquet").counts()
        state, ribosome, proteasome, both, f1, seconds, _ = rows[f"TS_{number}"]
        assert state == "done"
        assert (int(ribosome), int(proteasome)) == (counts["ribosome"], counts["proteasome"])
        assert int(both) == counts["ribosome"] + counts["proteasome"]
        overall = json.loads((folder / "evaluation.json").read_text())["overall"]
        assert float(f1) == overall["f1"]
        stages = json.loads((folder / "state.json").read_text())["stages"]
        assert float(seconds) == pytest.approx(sum(one["seconds"] for one in stages.values()))
    assert rows["TS_p"][:4] == ["pending", "", "", ""]


def test_totals_are_sums(campaign, page):
    rows = rows_of(page)
    total = sum(int(row[3]) for row in rows.values() if row[3])
    assert f"<dt>particles</dt><dd>{total}<" in page
    assert "<dd>8 of 12<" in page
    pooled = [json.loads(p.read_text())["overall"] for p in campaign.glob("tomograms/*/evaluation.json")]
    matched, sums = sum(p["matched"] for p in pooled), sum(p["true"] + p["found"] for p in pooled)
    assert f"<dt>F1</dt><dd>{2 * matched / sums:.3f}<" in page


def test_failures_are_named_with_their_reason(page):
    section = page[page.index('id="failures"') : page.index("</section>")]
    assert html.escape(EVIL) in section
    assert "3 workers died" in section
    assert "TS_r" not in section
    assert "deepfinder run c.toml --retry-failed" in section


def test_what_a_user_named_is_text(page):
    """Names, reasons and settings that are HTML stay words: no element and no handler comes of them."""
    found = Page(page)
    assert len(found.of("script")) == 1
    assert not found.of("img")
    assert not [key for _, attrs in found.elements for key in attrs if key.startswith("on")]
    assert any(EVIL in text for text in found.texts)
    assert "alert(1)" not in page.split("<script>", 1)[1].split("</script>")[0]
    # A name ends up in an attribute, and leaves no other one behind.
    assert sum(attrs.get("data-name") == EVIL.lower() for attrs in found.of("tr")) == 1


def test_nothing_is_asked_for_outside(page):
    """No address but pictures inside and links to files beside; and a policy that forbids anything else."""
    found = Page(page)
    addresses = [attrs[k] for _, attrs in found.elements for k in ("src", "href", "action", "data") if attrs.get(k)]
    assert addresses
    for address in addresses:
        assert address.startswith(("data:image/", "data:,", "#", "./tomograms/")), address
    assert "url(" not in page
    assert "@import" not in page
    policy = next(a["content"] for a in found.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy.split("script-src")[1]


def test_links_lead_to_files_that_are_there(campaign, page, tmp_path):
    links = {a["href"] for a in Page(page).of("a") if a["href"].startswith("./")}
    assert links
    assert all((campaign / unquote(link)).is_file() for link in links)
    # Written elsewhere, links still hold.
    other = write_report(campaign, tmp_path / "deep" / "page.html")
    links = {a["href"] for a in Page(other.read_text("utf-8")).of("a") if a["href"].endswith(".json")}
    assert all((other.parent / unquote(link)).is_file() for link in links)


def test_unlike_ones_are_explained(page):
    section = page[page.index('id="flags"') : page.index('id="tomograms"')]
    assert "TS_5" in section
    assert re.search(r"2 ribosome, where others hold about 3\d in a volume of this size", section)
    assert len(re.findall('<li class="card">', section)) == 1


def test_again_it_reads_what_is_kept(campaign, page, monkeypatch):
    """A second report opens no volume and no list of particles, and says the same."""
    from deepfinder_dask.campaigns.reporting import digests

    monkeypatch.setattr(digests, "make_digest", lambda *_: pytest.fail("looked again"))

    def timeless(text):
        return re.sub("Written .*? by", "", text)

    assert timeless(write_report(campaign).read_text("utf-8")) == timeless(page)


def test_what_is_done_anew_is_looked_at_again(campaign, page, tmp_path):
    folder = shutil.copytree(campaign, tmp_path / "copy")
    here = folder / "tomograms" / "TS_1"
    particles = Particles.read(here / "particles.parquet")
    particles.where(np.arange(len(particles)) < 7).write(here / "particles.parquet")
    state = json.loads((here / "state.json").read_text())
    state["stages"]["cluster"]["identity"] = "another"
    (here / "state.json").write_text(json.dumps(state))
    rows = rows_of(write_report(folder).read_text("utf-8"))
    assert int(rows["TS_1"][3]) == 7
    assert rows["TS_2"] == rows_of(page)["TS_2"]


def test_kept_digests_come_back_as_they_were(campaign):
    state = next(one for one in read_campaign(campaign).tomograms if one.name == "TS_3")
    digest = make_digest(state.folder, 96_000)
    assert Digest.from_dict(json.loads(json.dumps(digest.to_dict()))) == digest
    assert digest.particles["ribosome"].count == 30
    table = Particles.read(state.folder / "particles.parquet").table
    sizes = table.loc[table["class"] == "ribosome", "size_voxels"].astype(float)
    assert digest.particles["ribosome"].size == sizes.median()
    assert sum(digest.particles["ribosome"].sizes.values()) == 30
    assert sum(digest.particles["ribosome"].scores) == 30


def test_a_picture_outlives_its_volumes(campaign, tmp_path):
    """Volumes may be dropped when a tomogram is done; its picture stays, whatever size is asked for next."""
    folder = shutil.copytree(campaign, tmp_path / "copy")
    write_report(folder)
    for store in folder.glob("tomograms/*/*.zarr"):
        shutil.rmtree(store)
    text = write_report(folder, picture_bytes=200_000).read_text("utf-8")
    assert text.count('<figure class="card"') == 8


def test_a_kept_picture_is_made_smaller_without_the_volumes(campaign, tmp_path):
    """Made large at the end of a tomogram, pictures shrink as the campaign grows: the same picture, of fewer pixels."""
    folder = shutil.copytree(campaign, tmp_path / "copy", ignore=shutil.ignore_patterns(KEPT))
    state = next(one for one in read_campaign(folder).tomograms if one.name == "TS_3")
    large = digest_of(state, 96_000).picture
    for store in state.folder.glob("*.zarr"):
        shutil.rmtree(store)
    small = digest_of(state, 8_000).picture
    assert small.size <= 8_000 < large.size
    assert small.rings == large.rings
    whole, part = (decoded(one.grey).astype(float) for one in (large, small))
    assert (whole.shape, part.shape) == ((96, 96), (80, 80))
    rough, again = (one.reshape(8, len(one) // 8, 8, -1) for one in (whole, part))
    assert np.abs(rough.mean(axis=(1, 3)) - again.mean(axis=(1, 3))).mean() < 12
    assert digest_of(state, 8_000).picture == small
    assert digest_of(state, 96_000).picture == large


def decoded(text):
    """Pixels of the base64 text of an image."""
    import base64
    import io

    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        return np.asarray(image.convert("L"))


def test_a_campaign_file_leads_to_its_folder(campaign, tmp_path):
    (tmp_path / "c.toml").write_text(
        f'name = "c"\noutput = "{campaign}"\nweights = "demo"\ntomograms = ["data/*.mrc"]\n'
    )
    assert write_report(tmp_path / "c.toml") == campaign / "report.html"


def test_a_damaged_tomogram_does_not_stop_the_page(campaign, tmp_path):
    folder = shutil.copytree(campaign, tmp_path / "copy", ignore=shutil.ignore_patterns(KEPT))
    (folder / "tomograms" / "TS_1" / "particles.parquet").write_bytes(b"PAR1 torn")
    (folder / "tomograms" / "TS_2" / "state.json").write_text('{"tomogram": "TS_2", "sta')
    (folder / "tomograms" / "TS_3" / "tomogram.zarr" / "zarr.json").write_text("{")
    (folder / "campaign.json").write_text("[]")
    text = write_report(folder).read_text("utf-8")
    rows = rows_of(text)
    assert rows["TS_1"][0] == "done"
    assert rows["TS_1"][3] == ""
    assert rows["TS_2"][0] == "unknown"
    assert "state.json is missing or torn" in text
    assert int(rows["TS_3"][3]) == 40
    assert int(rows["TS_4"][3]) == 41


def test_a_folder_that_is_read_only_is_reported_elsewhere(campaign, tmp_path, monkeypatch):
    from deepfinder_dask.campaigns.reporting import digests
    from deepfinder_dask.errors import StorageError

    folder = shutil.copytree(campaign, tmp_path / "copy", ignore=shutil.ignore_patterns(KEPT))

    def refuse(path):
        raise StorageError(f"{path}: read-only")

    monkeypatch.setattr(digests, "atomic_write", refuse)
    text = write_report(folder, tmp_path / "page.html").read_text("utf-8")
    assert len(rows_of(text)) == 12
    assert not list(folder.glob(f"tomograms/*/{KEPT}"))


@pytest.mark.parametrize("budget", [0, 20_000, 60_000, 2**20])
def test_pictures_keep_to_their_budget(campaign, tmp_path, budget):
    folder = shutil.copytree(campaign, tmp_path / "copy", ignore=shutil.ignore_patterns(KEPT))
    text = write_report(folder, picture_bytes=budget).read_text("utf-8")
    found = re.findall(r"data:image/[a-z]+;base64,([^\"]*)", text)
    paths = re.findall(r'<path stroke="[^"]*" d="([^"]*)"', text)
    assert sum(map(len, found)) + sum(map(len, paths)) <= budget
    assert bool(found) == (budget > 0)
    if 0 < budget < 2**18:  # not all fit: the one that is worth a look comes first
        shown = re.findall(r'<figure class="card" data-name="([^"]*)"', text)
        assert "ts_5" in shown
        assert len(shown) < 8


def test_the_picture_shows_labels_and_particles_where_they_are(tmp_path):
    """Rings lie around the balls of the label layer, and the label layer lies on the dark voxels, y upwards."""
    import base64
    import io

    from PIL import Image

    here = make_tomogram(tmp_path, "a", shape=(24, 80, 120), counts=(2, 3), noise=0.3, number=3)
    picture = make_digest(here, 96_000).picture
    with Image.open(io.BytesIO(base64.b64decode(picture.grey))) as image:
        grey = np.asarray(image.convert("L")).astype(float)
    with Image.open(io.BytesIO(base64.b64decode(picture.labels))) as image:
        labels = np.asarray(image)
        palette = image.getpalette()
    assert grey.shape == labels.shape == (80, 120)
    assert palette[3:6] == list(CLASSES[0].rgb)
    assert grey[labels > 0].mean() < 0.6 * grey[labels == 0].mean()
    nm = picture.width / 120
    circles = [
        (colour, float(x), float(y), float(r))
        for colour, path in picture.rings
        for x, y, r in re.findall(r"M(\S+) (\S+?)a(\S+)", path)
    ]
    assert circles
    for colour, left, y, radius in circles:
        row, column = int(y / nm), int((left + radius) / nm)
        label = labels[min(max(row, 0), 79), min(max(column, 0), 119)]
        assert CLASSES[label - 1].colour == colour
    table = Particles.read(here / "particles.parquet").table
    highest = table.loc[table["y"].idxmax()]
    assert min(y for _, _, y, _ in circles) >= picture.height - highest["y"] / 10 - nm


def test_a_large_campaign_stays_a_small_page(tmp_path):
    """Text takes a few kilobytes for each tomogram; that is all that grows."""
    template = make_tomogram(tmp_path, "TS_0", counts=(5, 4), volumes=False)
    digest_of(read_campaign(tmp_path).tomograms[0], 6_000)
    for number in range(1, 300):
        here = tmp_path / "tomograms" / f"TS_{number}"
        shutil.copytree(template, here)
        state = json.loads((here / "state.json").read_text())
        (here / "state.json").write_text(json.dumps({**state, "tomogram": f"TS_{number}"}))
    text = write_report(tmp_path).read_text("utf-8")
    assert len(rows_of(text)) == 300
    assert len(text) < 300 * 4_000 + 60_000


def test_robust_scores_are_those_of_the_definition():
    values = [1.0, 2.0, 3.0, 4.0, 100.0]
    # Median 3, absolute deviations 2 1 0 1 97, their median 1.
    assert robust_z(values, 0.0) == pytest.approx([(v - 3) / 1.4826 for v in values])
    assert robust_z(values, 10.0) == pytest.approx([(v - 3) / 10 for v in values])


def digests_with(rng, n=40, **odd):
    """Digests of alike tomograms, the last of which differs."""
    from deepfinder_dask.campaigns.reporting.digests import ClassDigest

    found = {}
    for number in range(n):
        facts = {"count": int(rng.poisson(100)), "size": 700 * rng.normal(1, 0.01), "score": 0.8}
        grey = {"mean": 0.1 * rng.normal(), "std": 5 * rng.normal(1, 0.01), "percentiles": {}}
        shape, voxel = (100, 200, 200), (10.0,) * 3
        if number == n - 1:
            facts |= {k: v for k, v in odd.items() if k in facts}
            grey |= odd.get("grey", {})
            shape, voxel = odd.get("shape", shape), odd.get("voxel", voxel)
        found[f"t{number}"] = Digest(
            particles={"ribosome": ClassDigest(**facts)}, shape=shape, voxel_size=voxel, grey=grey
        )
    return found


@pytest.mark.parametrize(
    ("odd", "quantity", "words"),
    [
        ({"count": 20}, "count", "20 ribosome, where others hold about"),
        ({"count": 0}, "count", "0 ribosome, where others hold about"),
        ({"count": 260}, "count", "260 ribosome, where others hold about"),
        ({"size": 1400.0}, "size", "median size of ribosome is 1\u202f400 voxels, elsewhere about "),
        ({"score": 0.5}, "score", "median score of ribosome is 0.50, elsewhere about 0.80"),
        ({"grey": {"std": 9.0}}, "grey", "standard deviation of its grey values is 9, elsewhere about"),
        ({"grey": {"mean": 8.0}}, "grey", "mean of its grey values is 8, elsewhere about"),
        ({"voxel": (13.0,) * 3}, "voxel size", "voxel size is 13 Å, elsewhere 10 Å"),
    ],
)
def test_planted_outliers_are_found_and_nothing_else(odd, quantity, words):
    digests = digests_with(np.random.default_rng(8), **odd)
    seconds = dict.fromkeys(digests, 100.0)
    flags = find_outliers(digests, seconds, 4.5)
    assert list(flags) == ["t39"]
    assert quantity in [flag.quantity for flag in flags["t39"]]
    assert any(flag.words.startswith(words) for flag in flags["t39"])


def test_a_slow_tomogram_is_flagged_and_a_large_one_is_not():
    """Time counts for a voxel, particles for a volume."""
    digests = digests_with(np.random.default_rng(8), shape=(100, 200, 800), count=400)
    seconds = {name: float(np.prod(one.shape)) / 1e6 for name, one in digests.items()}
    assert find_outliers(digests, seconds, 4.5) == {}
    flags = find_outliers(digests, {**seconds, "t39": 3 * seconds["t39"]}, 4.5)
    assert [flag.words for flag in flags["t39"]] == ["took 3.0 times as long for a voxel as is usual"]


def test_of_few_tomograms_nothing_is_said():
    digests = digests_with(np.random.default_rng(8), n=5, count=1)
    assert find_outliers(digests, {}) == {}


def test_alike_tomograms_are_not_flagged():
    """Counts that scatter by chance alone are flagged about once in two thousand times at 3.5."""
    found = sum(len(find_outliers(digests_with(np.random.default_rng(seed), n=50), {})) for seed in range(40))
    assert found < 0.004 * 40 * 50


def test_an_empty_campaign_has_a_page(tmp_path):
    (tmp_path / "tomograms").mkdir()
    text = write_report(tmp_path).read_text("utf-8")
    assert "no tomogram yet" in text


def test_what_is_no_campaign_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected the folder of a campaign"):
        write_report(tmp_path)
    with pytest.raises(SettingsError, match="0 or more bytes"):
        write_report(tmp_path, picture_bytes=-1)
    assert not (tmp_path / "report.html").exists()


def test_the_command_writes_the_page(campaign, tmp_path, capsys):
    assert main(["report", str(campaign), "-o", str(tmp_path / "page.html"), "--picture-bytes", "40kB"]) == 0
    assert f"wrote {tmp_path / 'page.html'}" in capsys.readouterr().out
    assert len(rows_of((tmp_path / "page.html").read_text("utf-8"))) == 12
    assert main(["report", str(tmp_path)]) == 2
    assert "expected the folder of a campaign" in capsys.readouterr().err


def test_sizes_on_the_axis_are_those_of_the_particles(campaign, page):
    """The histogram of sizes stands for every particle, and its median is that of the lists."""
    tables = pd.concat([Particles.read(p).table for p in sorted(campaign.glob("tomograms/*/particles.parquet"))])
    sizes = tables.loc[tables["class"] == "ribosome", "size_voxels"].astype(float)
    section = page[page.index('id="distributions"') :]
    numbers = [int(n.replace("\u202f", "")) for n in re.findall(r"voxels: ([\d\u202f]+) particles", section)]
    assert sum(numbers) >= 0.99 * (tables["class"].isin(["ribosome", "proteasome"])).sum()
    medians = [int(n.replace("\u202f", "")) for n in re.findall(r">median ([\d\u202f]+)<", section)]
    assert medians[1] == pytest.approx(sizes.median(), rel=0.06)
