"""What is asked of all cases at once agrees with their whole records."""

import hashlib

from fair_strategy.store import cases


def test_listings_tell_what_the_records_tell(study):
    study.sync("c0", "c1", "c2", "c3")  # c4 and c5 are gone
    cases.mark_unreadable(study.store, "c1", "10-1", "cut off")
    cases.exclude(study.store, "c2", "wrong anatomy")
    records = cases.cases(study.store)
    there = [c for c in records if c.present]
    assert len(there) == 4
    assert cases.subjects(study.store) == {c.case_id: c.subject_id for c in records}
    assert cases.subjects(study.store, present=True) == {c.case_id: c.subject_id for c in there}
    assert cases.subjects(study.store, excluded=False).keys() == {
        c.case_id for c in records if not c.excluded
    }
    study.save("c3")
    study.save("c5")
    assert cases.subjects(study.store, labelled=True).keys() == {"c3", "c5"}
    assert cases.subjects(study.store, present=True, labelled=True).keys() == {"c3"}
    assert cases.present_ids(study.store) == ["c0", "c1", "c2", "c3"]
    assert cases.count_present(study.store) == 4
    told = hashlib.sha256(b"c0 10-1\nc3 10-1").hexdigest()
    assert cases.digest_of_files(study.store) == told
    study.sync("c0", "c1", "c2", "c3", fingerprint="11-2")
    assert cases.digest_of_files(study.store) != told


def test_labels_are_counted_by_tag_and_of_scans_that_are_there(study):
    for case_id in ("c0", "c1", "c5"):
        study.save(case_id)
    study.save("c0", "second")
    study.sync("c0", "c1")
    assert cases.count_labels(study.store) == {"final": 2, "second": 1}
    assert cases.tags(study.store, "c0") == ["final", "second"]
    assert cases.tags(study.store, "c3") == []
