"""Public functions say what they take and give: numpydoc sections, read from the source.

A public function, and a public method of a public class, has a section `Parameters` that names the parameters of its
signature and no other, and a section `Returns` or `Yields` where it gives something. A property has neither, and a
method that takes nothing and gives one plain value needs neither. The parameters of a constructor stand in the text of
its class. `MISSING` names what has no such text yet: a name may
leave it and none may come.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator

import pytest

from tests.support.repository import ROOT

ROOMS = ("minet_core", "sites")

MISSING: frozenset[str] = frozenset(
    {
        "sites/duplicates/likeness.py:Signatures",
        "sites/duplicates/likeness.py:Signatures.add",
        "sites/duplicates/likeness.py:Signatures.drop",
        "sites/duplicates/likeness.py:Signatures.nearest",
        "sites/duplicates/likeness.py:Signatures.save",
        "sites/duplicates/likeness.py:images_of",
        "sites/duplicates/same_anatomy.py:SameAnatomy",
        "sites/duplicates/same_anatomy.py:SameAnatomy.keep",
        "sites/duplicates/same_anatomy.py:SameAnatomy.owner_of",
        "sites/duplicates/same_anatomy.py:SameAnatomy.require_known",
        "sites/duplicates/same_anatomy.py:SameAnatomy.same_files",
        "sites/duplicates/signature.py:rank",
        "sites/duplicates/signature.py:signature_of",
        "sites/duplicates/signature.py:similarity",
        "sites/ingest.py:ingest",
        "sites/ingest_plan.py:IngestPlan.as_json",
        "sites/ingest_plan.py:name_warnings",
        "sites/ingest_plan.py:plan_ingest",
        "sites/ingest_plan.py:require_found",
        "sites/ingest_report.py:IngestReport.as_json",
        "sites/ingest_report.py:causes_in_short",
        "sites/ingest_report.py:causes_of",
        "sites/ingest_report.py:refusal_lines",
        "sites/pairing/candidates.py:Found.refuse",
        "sites/pairing/candidates.py:label_of",
        "sites/pairing/file_choice.py:choose_file",
        "sites/pairing/file_choice.py:is_no_magnitude",
        "sites/pairing/file_choice.py:stem_of",
        "sites/pairing/flat_folder.py:flat_pattern",
        "sites/pairing/flat_folder.py:patients_by_file_name",
        "sites/pairing/pair_lists.py:find_listed",
        "sites/pairing/pairing.py:find_pairs",
        "sites/pairing/patient_names.py:judge_names",
        "sites/pairing/patient_names.py:require_plain",
        "sites/pairing/patient_names.py:same_patient_groups",
        "sites/phantom_files.py:coil_sensitivities",
        "sites/phantom_files.py:ismrmrd_header",
        "sites/phantom_files.py:write_fastmri",
        "sites/phantom_files.py:write_nifti",
        "sites/phantom_files.py:write_pair_list",
        "sites/phantom_files.py:write_phantom_site",
        "sites/quality/bright_artefacts.py:bright_figures",
        "sites/quality/bright_artefacts.py:why_too_bright",
        "sites/quality/derived_images.py:value_figures",
        "sites/quality/derived_images.py:value_remarks",
        "sites/quality/derived_images.py:why_derived",
        "sites/quality/figure_text.py:shares_told_apart",
        "sites/quality/figure_text.py:told_apart",
        "sites/quality/image_quality.py:Examined.used_with",
        "sites/quality/image_quality.py:examine",
        "sites/quality/image_quality.py:examine_scan",
        "sites/quality/pair_quality.py:quality_remarks",
        "sites/quality/same_contrast.py:measure_likeness",
        "sites/quality/scan_quality.py:bright_percentile",
        "sites/quality/scan_quality.py:check_image",
        "sites/quality/scan_quality.py:check_shape",
        "sites/quality/scan_quality.py:foreground",
        "sites/quality/scan_quality.py:use_of_slices",
        "sites/quality/slice_faults.py:SliceFaults.named",
        "sites/quality/slice_faults.py:find_slice_faults",
        "sites/registration/block_matching.py:axes_of",
        "sites/registration/block_matching.py:compare_blocks",
        "sites/registration/block_matching.py:match_blocks",
        "sites/registration/checks.py:require_registered",
        "sites/registration/checks.py:require_two_contrasts",
        "sites/registration/contour_agreement.py:contour_agreement",
        "sites/registration/motion_fit.py:MotionFit.displacements_at",
        "sites/registration/motion_fit.py:error_of",
        "sites/registration/motion_fit.py:fit_motion",
        "sites/registration/motion_fit.py:sub_volumes",
        "sites/registration/register.py:Motion.as_sitk",
        "sites/registration/register.py:find_motion",
        "sites/registration/register.py:foreground_points",
        "sites/registration/register.py:matching_image",
        "sites/registration/register.py:moved_by",
        "sites/registration/register.py:refined",
        "sites/registration/register.py:register",
        "sites/registration/resampling.py:as_sitk",
        "sites/registration/resampling.py:resample",
        "sites/registration/resampling.py:same_grid",
        "sites/registration/slice_agreement.py:largest_step",
        "sites/registration/slice_agreement.py:measure_slices",
        "sites/registration/slice_agreement.py:out_of_order_share",
        "sites/scans/fastmri_hdf5.py:central_slices",
        "sites/scans/fastmri_hdf5.py:read_fastmri",
        "sites/scans/fastmri_hdf5.py:read_header",
        "sites/scans/foreign_hdf5.py:ForeignFile",
        "sites/scans/foreign_hdf5.py:ForeignFile.array",
        "sites/scans/foreign_hdf5.py:ForeignFile.attribute",
        "sites/scans/foreign_hdf5.py:ForeignFile.mask",
        "sites/scans/foreign_hdf5.py:ForeignFile.slice",
        "sites/scans/foreign_hdf5.py:ForeignFile.text",
        "sites/scans/hdf5_worker.py:OpenedFile",
        "sites/scans/hdf5_worker.py:OpenedFile.array",
        "sites/scans/hdf5_worker.py:OpenedFile.attribute",
        "sites/scans/hdf5_worker.py:OpenedFile.mask",
        "sites/scans/hdf5_worker.py:OpenedFile.slice",
        "sites/scans/hdf5_worker.py:OpenedFile.text",
        "sites/scans/hdf5_worker.py:serve",
        "sites/scans/nifti.py:read_nifti",
        "sites/scans/nifti.py:read_nifti_with_remarks",
        "sites/scans/nifti.py:require_geometry",
        "sites/scans/nifti_file.py:read_header",
        "sites/scans/nifti_file.py:read_stored",
        "sites/scans/unreadable.py:refusal_of",
        "sites/scans/unreadable.py:unlisted",
        "sites/scans/unreadable.py:unreadable",
        "sites/scans/wrapped_integers.py:unwrapped",
        "sites/scores.py:by_method",
        "sites/scores.py:scores_as_text",
        "sites/scores.py:scores_on_test_split",
        "sites/scores.py:validation_scores",
        "sites/settings/definitions.py:definition",
        "sites/settings/definitions.py:definition_names",
        "sites/settings/definitions.py:definition_text",
        "sites/settings/round_cost.py:cost_of_round",
        "sites/settings/site_policy.py:open_policy",
        "sites/settings/site_policy.py:require_budget_left",
        "sites/settings/site_policy.py:require_bundle_allowed",
        "sites/settings/site_policy.py:require_cohort_allowed",
        "sites/settings/site_policy.py:require_federation_allowed",
        "sites/settings/site_policy.py:require_model_allowed",
        "sites/settings/site_policy.py:require_steps_allowed",
        "sites/settings/site_settings.py:SplitLists.given",
        "sites/store/cohort.py:Cohort.pairs_of",
        "sites/store/cohort.py:Cohort.remarks",
        "sites/store/cohort.py:cohort_lines",
        "sites/store/cohort.py:make_cohort",
        "sites/store/dataset.py:StoreSlices",
        "sites/store/dataset.py:require_patch",
        "sites/store/hdf5_file.py:open_to_read",
        "sites/store/hdf5_file.py:writing",
        "sites/store/pseudonym.py:keep_key",
        "sites/store/pseudonym.py:keyed",
        "sites/store/pseudonym.py:pseudonym",
        "sites/store/pseudonym.py:site_key",
        "sites/store/site_secret.py:patch_seed",
        "sites/store/split.py:assign_splits",
        "sites/store/split.py:draw_splits",
        "sites/store/split.py:drawn_share",
        "sites/store/split.py:listed_splits",
        "sites/store/split.py:order_of",
        "sites/store/split.py:slices_of",
        "sites/store/split_register.py:read_register",
        "sites/store/split_register.py:write_register",
        "sites/store/store.py:Store",
        "sites/store/store.py:Store.keep_only",
        "sites/store/store.py:Store.read_pair",
        "sites/store/store.py:Store.volumes",
        "sites/store/store.py:Store.write_cohort",
        "sites/store/store.py:open_pair",
        "sites/store/store.py:read_failure",
        "sites/store/store.py:read_record",
        "sites/store/store.py:reading",
        "sites/store/store.py:require_pair",
        "sites/store/store.py:write_pair",
        "sites/store/training_domain.py:measured_domain",
        "sites/store/verify.py:CheckReport.as_json",
        "sites/store/verify.py:check",
        "sites/super_resolution/aligned_reference.py:bring_guide",
        "sites/super_resolution/cautions.py:caution_on_data",
        "sites/super_resolution/cautions.py:cautions_of_reading",
        "sites/super_resolution/cautions.py:cautions_on_guide",
        "sites/super_resolution/cautions.py:cautions_on_kind",
        "sites/super_resolution/refined_grid.py:RefinedGrid.in_file_axes",
        "sites/super_resolution/refined_grid.py:RefinedGrid.inner",
        "sites/super_resolution/refined_grid.py:RefinedGrid.refined",
        "sites/super_resolution/refined_grid.py:on_frame",
        "sites/super_resolution/refined_grid.py:refined_grid",
        "sites/super_resolution/refinement_plane.py:find_plane",
        "sites/super_resolution/refinement_plane.py:parallel_axis",
        "sites/super_resolution/refinement_plane.py:plane_name",
        "sites/super_resolution/super_resolve.py:SuperResolved.as_json",
        "sites/super_resolution/super_resolve.py:super_resolve_file",
    }
)

Function = ast.FunctionDef | ast.AsyncFunctionDef

PLAIN = frozenset({"bool", "int", "float", "str", "bytes", "Path"})
NOTHING = re.compile(
    r"None|NoReturn|Never|(?:Iterator|Generator|AsyncIterator|AsyncGenerator)\[None(?:, None)*\]"
)
PROPERTIES = frozenset({"property", "cached_property", "setter", "overload"})
HEADING = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)


def sections_of(docstring: str) -> dict[str, str]:
    """The text under each heading that is underlined."""
    parts = HEADING.split(inspect.cleandoc(docstring))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def names_in(section: str) -> set[str]:
    """The names of a section's entries: `one, other : type` names two."""
    heads = [line for line in section.splitlines() if line and not line.startswith(" ")]
    return {name.strip().lstrip("*") for head in heads for name in head.split(" : ")[0].split(",")}


def parameters_of(function: Function) -> set[str]:
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    named += [one for one in (given.vararg, given.kwarg) if one is not None]
    return {one.arg for one in named} - {"self", "cls"}


def faults_of_parameters(parameters: set[str], sections: dict[str, str]) -> list[str]:
    named = names_in(sections.get("Parameters", ""))
    faults = [f"the parameter {name} is not in Parameters" for name in sorted(parameters - named)]
    return faults + [
        f"Parameters names {name}, which the signature lacks" for name in sorted(named - parameters)
    ]


def faults_of_class(node: ast.ClassDef) -> list[str]:
    """What the docstring of a public class lacks of its own constructor."""
    made = [one for one in node.body if isinstance(one, Function) and one.name == "__init__"]
    sections = sections_of(ast.get_docstring(node) or "")
    return [fault for one in made for fault in faults_of_parameters(parameters_of(one), sections)]


def faults_of(function: Function, *, is_method: bool) -> list[str]:
    """What the docstring of a public function lacks, or says of a parameter that is none."""
    parameters = parameters_of(function)
    returned = "None" if function.returns is None else ast.unparse(function.returns)
    gives = NOTHING.fullmatch(returned) is None
    sections = sections_of(ast.get_docstring(function) or "")
    faults = faults_of_parameters(parameters, sections)
    told = bool({"Returns", "Yields"} & sections.keys())
    is_plain = is_method and not parameters and returned.removesuffix(" | None") in PLAIN
    if gives and not told and not is_plain:
        faults.append("no section Returns or Yields")
    if told and not gives:
        faults.append("a section Returns or Yields, and nothing is given")
    return faults


def is_public(node: ast.stmt) -> bool:
    return isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_")


def is_property(function: Function) -> bool:
    names = {ast.unparse(one).split("(")[0].split(".")[-1] for one in function.decorator_list}
    return bool(names & PROPERTIES)


def public_functions(tree: ast.Module) -> Iterator[tuple[str, Function, bool]]:
    """Each by its name, and whether it is a method."""
    for node in filter(is_public, tree.body):
        if isinstance(node, Function):
            yield node.name, node, False
        elif isinstance(node, ast.ClassDef):
            for one in filter(is_public, node.body):
                if isinstance(one, Function) and not is_property(one):
                    yield f"{node.name}.{one.name}", one, True


def faults_in(source: str) -> dict[str, list[str]]:
    tree = ast.parse(source)
    found = {name: faults_of(one, is_method=is_method) for name, one, is_method in public_functions(tree)}
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef) and is_public(node))
    found |= {node.name: faults_of_class(node) for node in classes}
    return {name: faults for name, faults in found.items() if faults}


def faults_of_room(room: str) -> dict[str, list[str]]:
    return {
        f"{path.relative_to(ROOT).as_posix()}:{name}": faults
        for path in sorted((ROOT / room).rglob("*.py"))
        for name, faults in faults_in(path.read_text(encoding="utf-8")).items()
    }


TOLD = '''
def told(x: int, *rest: int, y: int, z: int) -> int:
    """Add.

    Parameters
    ----------
    x : int, mm
        One.
    *rest
        More.
    y, z
        Others.

    Returns
    -------
    int
        The sum.
    """


class Shape:
    def area(self) -> float:
        """Its area, mm^2."""

    def draw(self) -> None:
        """Draw it."""
'''


def test_a_function_that_is_told_whole_has_no_fault() -> None:
    assert faults_in(TOLD) == {}


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("y, z\n", "y\n", "the parameter z is not in Parameters"),
        ("y: int, ", "", "Parameters names y, which the signature lacks"),
        ("    Returns\n    -------\n    int\n        The sum.\n", "", "no section Returns or Yields"),
        ("z: int) -> int", "z: int) -> None", "a section Returns or Yields, and nothing is given"),
    ],
)
def test_each_fault_is_seen(old: str, new: str, fault: str) -> None:
    assert TOLD.count(old) == 1
    assert faults_in(TOLD.replace(old, new)) == {"told": [fault]}


def test_a_method_that_takes_something_is_a_function_as_any() -> None:
    assert list(faults_in(TOLD.replace("area(self)", "area(self, scale: float)"))) == ["Shape.area"]


def test_the_parameters_of_a_constructor_stand_in_the_text_of_its_class() -> None:
    made = TOLD.replace(
        "    def draw(self)", "    def __init__(self, edge_mm: float) -> None: ...\n\n    def draw(self)"
    )
    assert faults_in(made) == {"Shape": ["the parameter edge_mm is not in Parameters"]}
    told = made.replace(
        "class Shape:\n",
        'class Shape:\n    """Any.\n\n    Parameters\n    ----------\n    edge_mm\n        An edge, mm.\n    """\n',
    )
    assert faults_in(told) == {}


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_function_of_a_room_says_what_it_takes_and_gives(room: str) -> None:
    found = faults_of_room(room)
    new = {name: faults for name, faults in found.items() if name not in MISSING}
    told = {name for name in MISSING if name.startswith(f"{room}/") and name not in found}
    assert not new
    assert not told, "has its sections: take it out of MISSING"
