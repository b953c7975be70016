from __future__ import annotations

from posthouse.store.finding import FINDINGS_MAX, Report, Severity


def test_only_damage_makes_a_report_one_of_damage() -> None:
    report = Report("here")
    report.add(Severity.NOTE, "a", None, "what", "means")
    report.add(Severity.WARNING, "a", None, "what", "means")
    before = report.is_damaged
    report.add(Severity.DAMAGE, "a", None, "what", "means", "remedy")
    assert (before, report.is_damaged) == (False, True)
    assert [report.count(each) for each in Severity] == [1, 1, 1]


def test_notes_do_not_crowd_out_damage() -> None:
    report = Report("here")
    for _ in range(FINDINGS_MAX + 5):
        report.add(Severity.NOTE, "a", None, "what", "means")
    report.add(Severity.DAMAGE, "b", None, "what", "means")
    assert report.count(Severity.NOTE) == FINDINGS_MAX + 5
    assert report.unlisted[Severity.NOTE] == 5
    assert report.findings[-1].file == "b"
