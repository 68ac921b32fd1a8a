"""RELION 5: files that it and its friends wrote, and the centre that everything counts from."""

from __future__ import annotations

import numpy as np
import pytest

from deepfinder_dask.errors import FormatError, GeometryError, InputError, VoxelSizeError
from deepfinder_dask.particles import (
    ParticleClass,
    Particles,
    ParticlesWarning,
    TomogramFacts,
    read_particles,
    write_particles,
)
from deepfinder_dask.particles import angles as euler
from deepfinder_dask.particles.formats.star import read_star


def passive(rot, tilt, psi):
    """RELION's matrix as its documentation writes it: rotations of the axes about z, y, z."""
    ca, sa, cb, sb, cg, sg = (f(np.deg2rad(a)) for a in (rot, tilt, psi) for f in (np.cos, np.sin))
    return np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )


@pytest.mark.filterwarnings("ignore:.*lie outside:deepfinder_dask.particles.formats.ParticlesWarning")
class TestRelion5:
    """The tomograms of these files are crops, and most particles lie outside of them."""

    CENTRE = np.array([84, 136, 44]) / 2 * 10.52

    def test_picks_through_the_optimisation_set(self, data_dir):
        jobs = data_dir / "annotations" / "relion5" / "test_jobs"
        particles = read_particles(jobs / "Picks" / "job_picks" / "optimisation_set.star")
        centred = [
            [-176.94, 765.48005, 11.16],
            [51.550009, 9.700021, 11.16],
            [283.550016, -728.500014, 11.16],
            [-58.030014, 386.650021, 9.08],
            [159.920005, -362.089985, 9.08],
        ]
        np.testing.assert_allclose(particles.table[["x", "y", "z"]] - self.CENTRE, centred, atol=1e-9)
        assert particles.table["tomogram"].tolist() == ["TS_01"] * 3 + ["TS_02"] * 2
        assert particles.tomograms["TS_01"] == TomogramFacts(10.52, (44, 136, 84))
        assert not particles.oriented

    def test_refined_origins_are_subtracted(self, data_dir):
        jobs = data_dir / "annotations" / "relion5" / "test_jobs"
        particles = read_particles(jobs / "Refine3D" / "job_refine" / "run_it050_optimisation_set.star")
        first = [-176.94 + 2.41904, 765.48005 - 2.498456, 11.16 + 6.78404]
        np.testing.assert_allclose(particles.positions()[0, ::-1] - self.CENTRE, first, atol=1e-9)
        np.testing.assert_allclose(particles.orientations()[0], [-126.27895, 65.873044, 99.174441], atol=1e-6)

    def test_subtomogram_and_particle_angles_are_composed(self, data_dir):
        jobs = data_dir / "annotations" / "relion5" / "test_jobs"
        particles = read_particles(jobs / "Class3D" / "job_class3d" / "run_it025_optimisation_set.star")
        subtomogram = passive(174.931305, 90.261512, -129.54646)
        particle = passive(27.128677, 92.568990, 6.654494)
        np.testing.assert_allclose(euler.to_matrices(particles.orientations())[0], subtomogram @ particle, atol=1e-6)
        coordinate = np.array([754.828605, -879.58025, 138.065739])
        origin = np.array([-3.75772, 4.342283, -3.75772])
        expected = self.CENTRE + coordinate - subtomogram @ origin
        np.testing.assert_allclose(particles.positions()[0, ::-1], expected, atol=1e-6)
        assert particles.counts() == {"class_1": 4, "class_2": 4, "class_3": 2}

    def test_without_tomograms_the_size_is_asked_for(self, data_dir):
        path = data_dir / "annotations" / "relion5" / "test_jobs" / "Picks" / "job_picks" / "particles.star"
        with pytest.raises(VoxelSizeError, match="--tomograms-star"):
            read_particles(path)
        with pytest.raises(GeometryError, match="--tomograms-star"):
            read_particles(path, voxel_size=10.52)
        with pytest.warns(ParticlesWarning, match="taken as unbinned"):
            particles = read_particles(path, voxel_size=10.52, shape=(44, 136, 84))
        np.testing.assert_allclose(particles.positions()[0, ::-1] - self.CENTRE, [-176.94, 765.48005, 11.16])

    def test_older_relion_is_named(self, data_dir):
        with pytest.raises(FormatError, match="RELION 4 or older: --from relion4"):
            read_particles(data_dir / "annotations" / "chlamy_star" / "ps2.star", "relion5")


class TestRelion5Export:
    FACTS = TomogramFacts(8.0, (100, 200, 301))

    def particles(self, **changes):
        options = {"tomogram": "rec_TS_01", "facts": self.FACTS, "labels": [5], "classes": [ParticleClass("a", 5)]}
        return Particles.from_voxels([[10.0, 20.0, 30.0]], **{**options, **changes})

    def star(self, folder, size="1204\t800\t401"):
        """Unbinned 2 Å, binned by 4; the recorded size is not quite four times the shape."""
        path = folder / "tomograms.star"
        path.write_text(
            "data_global\n\nloop_\n_rlnTomoName #1\n_rlnVoltage #2\n_rlnTomoTiltSeriesPixelSize #3\n"
            "_rlnTomoTomogramBinning #4\n_rlnTomoSizeX #5\n_rlnTomoSizeY #6\n_rlnTomoSizeZ #7\n"
            f"TS_01\t300.0\t2.0\t4.0\t{size}\nTS_02\t300.0\t2.5\t4.0\t{size}\n"
        )
        return path

    def test_centre_from_tomograms_star(self, tmp_path):
        star = self.star(tmp_path)
        written = write_particles(self.particles(scores=[0.25]), tmp_path / "particles.star", tomograms_star=str(star))
        assert [one.name for one in written] == ["particles.star", "optimisation_set.star"]
        blocks = read_star(written[0])
        row = blocks["particles"].iloc[0]
        assert row["rlnTomoName"] == "TS_01"  # found without rec_
        assert row["rlnCenteredCoordinateXAngst"] == 240.0 - 1204.0
        assert row["rlnCenteredCoordinateYAngst"] == 160.0 - 800.0
        assert row["rlnCenteredCoordinateZAngst"] == 80.0 - 401.0
        assert row["rlnClassNumber"] == 5
        assert row["rlnAutopickFigureOfMerit"] == 0.25
        assert blocks["optics"].iloc[0]["rlnTomoTiltSeriesPixelSize"] == 2.0
        assert blocks["optics"].iloc[0]["rlnVoltage"] == 300.0
        back = read_particles(written[1])
        np.testing.assert_allclose(back.positions(), [[80.0, 160.0, 240.0]])
        assert back.tomograms["TS_01"].voxel_size == (8.0, 8.0, 8.0)

    @pytest.mark.parametrize(("center", "shift"), [("n/2", 0.0), ("n/2-1", 2.0)])
    def test_centre_from_the_shape_and_binning(self, tmp_path, center, shift):
        options = {"binning": 4.0, "relion_center": center}
        written = write_particles(self.particles(), tmp_path / "p.star", **options)
        row = read_star(written[0])["particles"].iloc[0]
        assert row["rlnCenteredCoordinateXAngst"] == 240.0 - 1204.0 + shift
        assert row["rlnCenteredCoordinateZAngst"] == 80.0 - 400.0 + shift
        assert "rlnAutopickFigureOfMerit" not in row
        back = read_particles(written[0], voxel_size=8.0, shape=(100, 200, 301), **options)
        np.testing.assert_allclose(back.positions(), [[80.0, 160.0, 240.0]])
        assert written[1].name == "p_optimisation_set.star"

    def test_what_is_taken_for_granted_is_said(self, tmp_path):
        with pytest.warns(ParticlesWarning, match="taken as unbinned"):
            write_particles(self.particles(), tmp_path / "p.star")
        star = self.star(tmp_path, size="1204\t800\t800")
        with pytest.warns(ParticlesWarning, match="is it cropped"):
            write_particles(self.particles(), tmp_path / "q.star", tomograms_star=str(star))

    def test_refused_in_one_line(self, tmp_path):
        star = str(self.star(tmp_path))
        cases = [
            (FormatError, {"tomogram": "TS_09"}, {"tomograms_star": star}),
            (InputError, {}, {"tomograms_star": str(tmp_path / "none.star")}),
            (VoxelSizeError, {"facts": TomogramFacts((8.0, 8.0, 9.0), (1, 2, 3))}, {}),
            (GeometryError, {"facts": TomogramFacts(8.0)}, {}),
            (GeometryError, {}, {"binning": 0.0}),
            (InputError, {"tomogram": "two words"}, {"binning": 1.0}),
        ]
        for number, (kind, changes, options) in enumerate(cases):
            with pytest.raises(kind) as error:
                write_particles(self.particles(**changes), tmp_path / f"{number}" / "p.star", **options)
            assert "\n" not in str(error.value)
            assert not list(tmp_path.glob(f"{number}/*"))

    def test_all_angles_zero_are_unknown(self, tmp_path):
        particles = self.particles(orientations=[[0.0, 0.0, 0.0]])
        written = write_particles(particles, tmp_path / "p.star", binning=1.0)
        back = read_particles(written[0], voxel_size=8.0, shape=(100, 200, 301), binning=1.0)
        assert not back.oriented
