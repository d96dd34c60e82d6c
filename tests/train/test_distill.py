"""Distillation: the student learns where it will be used, from its teacher, and is kept only if it beats it."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.toy import toy_config, toy_dataset, write_raw_dataset
from verdiff.diffusion.loop import StepState, run_loop
from verdiff.errors import DataError
from verdiff.evaluate.statistics import compare
from verdiff.options import DistillOptions
from verdiff.train import distilling
from verdiff.train.checkpoint import load_network, read_checkpoint
from verdiff.train.config import DataConfig, DistillationConfig, RunConfig
from verdiff.train.curves import read_metrics
from verdiff.train.data.cases import write_cache
from verdiff.train.data.joining import TrainingSource
from verdiff.train.distill import DistillationObjective, distillation_kind, student_config, teacher_sampling
from verdiff.train.distill_verdict import VERDICT, Score, Verdict, judge, record
from verdiff.train.distilling import check_same_data
from verdiff.train.distilling import run as distill
from verdiff.train.losses import logit_loss
from verdiff.train.networks import VerdiffNet
from verdiff.train.prediction import X0Denoiser
from verdiff.train.run_folder import Started
from verdiff.train.trainer import Trainer

CPU = torch.device("cpu")
Batch = tuple[torch.Tensor, torch.Tensor]


def recipe(prediction: str = "x0", **values: object) -> RunConfig:
    """The toy student's configuration."""
    config = toy_config(corrupt=0.0, loss_mse=0.0)
    config = dataclasses.replace(
        config,
        process=dataclasses.replace(config.process, prediction=prediction),
        distillation=dataclasses.replace(
            DistillationConfig(teacher_steps=3, iterations=4, validate_every=2, ema=0.9),
            **values,  # type: ignore[arg-type]
        ),
    )
    return student_config(config)


def network(seed: int = 0) -> VerdiffNet:
    torch.manual_seed(seed)
    return VerdiffNet(2, toy_config().network).eval()


@pytest.fixture
def batch() -> Batch:
    rng = np.random.default_rng(5)
    image = torch.from_numpy(rng.uniform(-1, 1, (2, 1, 16, 24)).astype(np.float32))
    return image, torch.from_numpy((rng.random((2, 2, 16, 24)) > 0.7).astype(np.float32))


@pytest.fixture(scope="module")
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher trained well enough to know the toy's rectangles."""
    run = tmp_path_factory.mktemp("runs") / "teacher"
    config = toy_config(iterations=60, batch=4, learning_rate=5e-3, validate_every=60)
    for _ in Trainer(config, toy_dataset(), 0, run, device="cpu").train():
        pass
    return run


@pytest.fixture(scope="module")
def toy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("caches") / "toy"
    write_cache(toy_dataset(), folder)
    return folder


def condition(net: VerdiffNet, image: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    with torch.no_grad():
        output = net.prior(image)
    return 2 * torch.sigmoid(output.logits) - 1, output.features


@pytest.mark.parametrize("last", [0, 1, 2])
def test_the_student_is_trained_on_the_x_t_that_its_own_sampling_reaches(batch: Batch, last: int) -> None:
    net, config = network(), recipe(steps=3)
    prior, features = condition(net, batch[0])
    seed = next(s for s in range(50) if np.random.default_rng(s).integers(3) == last)
    raw, x, timestep = DistillationObjective(network(1), config, CPU).student_pass(
        net, prior, features, np.random.default_rng(seed)
    )

    rng, reached = np.random.default_rng(seed), []
    rng.integers(3)

    def keep(state: StepState) -> None:
        reached.append((state.timestep, state.x.copy(), state.x0hat))

    process, table = config.process.build(), config.sampling.table(config.process.build())
    denoise = X0Denoiser(net.denoiser, process, "x0").on_host(prior, features)
    shape = prior.shape
    run_loop(denoise, table, prior.numpy(), lambda step: rng.standard_normal(shape, dtype=np.float32), on_step=keep)
    assert timestep.tolist() == [reached[last][0]] * 2
    assert np.array_equal(x.numpy(), reached[last][1])
    assert torch.allclose(2 * torch.sigmoid(raw) - 1, torch.from_numpy(reached[last][2]), atol=1e-6)


def test_the_teachers_mask_is_the_mean_of_its_many_step_samples(batch: Batch) -> None:
    teacher, config = network(1), recipe(teacher_samples=3)
    prior, features = condition(teacher, batch[0])
    mask = DistillationObjective(teacher, config, CPU).teacher_mask(prior, features, np.random.default_rng(2))

    rng, process = np.random.default_rng(2), config.process.build()
    sampling = teacher_sampling(config)
    assert (sampling.steps, sampling.samples) == (3, 3)
    denoise = X0Denoiser(teacher.denoiser, process, "x0").on_host(prior, features)
    shape = prior.shape
    samples = [
        run_loop(
            denoise, sampling.table(process), prior.numpy(), lambda step: rng.standard_normal(shape, dtype=np.float32)
        )
        for _ in range(3)
    ]
    assert np.allclose(mask.numpy(), (np.mean(samples, axis=0) + 1) / 2, atol=1e-6)
    assert np.ptp(samples, axis=0).max() > 1e-4  # samples that are all the same would prove nothing


def test_the_loss_mixes_teacher_and_truth_by_their_weight(batch: Batch) -> None:
    net, teacher = network(), network(1)
    teacher.prior.load_state_dict(net.prior.state_dict())
    prior, features = condition(net, batch[0])

    def total(share: float) -> float:
        objective = DistillationObjective(teacher, recipe(truth_weight=share), CPU)
        return float(objective(net, *batch, np.random.default_rng(7)).total.detach())

    rng = np.random.default_rng(7)
    objective = DistillationObjective(teacher, recipe(), CPU)
    wanted = objective.teacher_mask(prior, features, rng)
    rng.random(len(prior))  # the draws of corrupt_prior, which damages none here
    raw, _, _ = objective.student_pass(net, prior, features, rng)
    imitation = float(torch.nn.functional.binary_cross_entropy_with_logits(raw.detach(), wanted))
    of_truth = float(logit_loss(raw.detach(), batch[1], 1.0, 1.0))
    assert abs(imitation - of_truth) > 0.1
    assert total(0.0) == pytest.approx(imitation, abs=1e-6)
    assert total(1.0) == pytest.approx(of_truth, abs=1e-6)
    assert total(0.25) == pytest.approx(0.75 * imitation + 0.25 * of_truth, abs=1e-6)


@pytest.mark.parametrize("prediction", ["x0", "epsilon", "v"])
def test_the_gradient_reaches_the_students_denoiser_and_nothing_else(batch: Batch, prediction: str) -> None:
    net, teacher = network(), network(1)
    DistillationObjective(teacher, recipe(prediction, steps=2), CPU)(
        net, *batch, np.random.default_rng(0)
    ).total.backward()
    assert all(p.grad is None for p in [*net.prior.parameters(), *teacher.parameters()])
    norms = [float(p.grad.norm()) for p in net.denoiser.parameters() if p.grad is not None]
    assert len(norms) == len(list(net.denoiser.parameters())) and np.isfinite(norms).all() and max(norms) > 0


def test_a_spoilt_student_finds_back_to_its_teacher_without_seeing_the_truth(toy_run: Path, tmp_path: Path) -> None:
    teacher, checkpoint = load_network(toy_run)
    asked = dataclasses.replace(
        checkpoint.config.distillation,
        teacher_steps=2, teacher_samples=1, truth_weight=0.0, iterations=40, learning_rate=5e-3, validate_every=40,
    )  # fmt: skip
    config = student_config(dataclasses.replace(checkpoint.config, distillation=asked))
    spoilt = copy.deepcopy(teacher)
    torch.manual_seed(0)
    spoilt.denoiser.load_state_dict(VerdiffNet(2, config.network).denoiser.state_dict())
    kind = dataclasses.replace(distillation_kind(teacher, checkpoint), initial=spoilt.state_dict())
    trainer = Trainer(config, toy_dataset(), 0, tmp_path / "run", kind=kind, device="cpu")
    losses = [trainer.step()["teacher"] for _ in range(40)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    for (name, ours), theirs in zip(trainer.ema.prior.state_dict().items(), teacher.prior.parameters(), strict=True):
        assert torch.equal(ours, theirs), name


def test_a_resumed_distillation_ends_with_the_very_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    teacher, config = network(), recipe()

    def trainer(run: str, resume: bool = False, net: VerdiffNet = teacher) -> Trainer:
        checkpoint = read_checkpoint(tmp_path / "teacher" / "last.pt")
        kind = distillation_kind(net, checkpoint)
        return Trainer(config, toy_dataset(), 0, tmp_path / run, kind=kind, resume=resume, device="cpu")

    for _ in Trainer(toy_config(iterations=1), toy_dataset(), 0, tmp_path / "teacher", device="cpu").train():
        pass
    whole = trainer("whole")
    for _ in whole.train():
        pass
    for state in trainer("cut").train():
        if state.iteration == 3:  # after the checkpoint of iteration 2
            break
    with pytest.raises(DataError, match="the teacher"):
        trainer("cut", resume=True, net=network(9))
    second = trainer("cut", resume=True)
    assert second.iteration == 2
    for _ in second.train():
        pass
    for (name, a), b in zip(second.ema.state_dict().items(), whole.ema.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert {"loss_teacher", "loss_truth"} < set(read_metrics(tmp_path / "cut" / "metrics.csv")[0])


def verdict(student: list[float], teacher: list[float]) -> Verdict:
    scores = [Score(name, 1, 1, np.array(dice)[:, None]) for name, dice in (("student", student), ("teacher", teacher))]
    patients = tuple(f"p{i}" for i in range(len(student)))
    return Verdict(patients, ("disc",), 1, scores[0], (scores[1],), (compare(student, teacher),))


def test_a_student_is_kept_only_when_it_wins_beyond_the_chance_of_patients() -> None:
    teacher = [0.90, 0.91, 0.92, 0.93, 0.94]
    assert verdict([d + 0.001 for d in teacher], teacher).kept
    assert not verdict(teacher, teacher).kept
    assert not verdict([d + 0.001 for d in teacher[:4]], teacher[:4]).kept  # too few to tell
    lucky = [d + gain for d, gain in zip(teacher, (0.01, -0.002, -0.002, -0.002, -0.002), strict=True)]
    assert np.mean(lucky) > np.mean(teacher) and not verdict(lucky, teacher).kept
    assert verdict(lucky, teacher).lines()[-1].startswith("not kept")


def test_a_kept_student_gets_best_weights_and_a_rejected_one_loses_them(tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"the student")
    low, high = [0.90, 0.91, 0.92, 0.93, 0.94], [0.91, 0.92, 0.93, 0.94, 0.95]
    record(tmp_path, verdict(high, low))
    assert (tmp_path / "best.pt").read_bytes() == b"the student"
    assert json.loads((tmp_path / VERDICT).read_text("utf-8"))["kept"] is True
    record(tmp_path, verdict(low, high))
    told = json.loads((tmp_path / VERDICT).read_text("utf-8"))
    assert told["kept"] is False and told["student_against"]["teacher"]["worse"] == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == [VERDICT, "last.pt"]


def test_student_and_teacher_of_the_same_weights_tie_and_a_better_student_wins(toy_run: Path) -> None:
    trained, checkpoint = load_network(toy_run)
    config = student_config(checkpoint.config)
    cases = list(toy_dataset(8).cases[3:])
    same = judge(trained, trained, config, checkpoint.config.sampling, cases, ("vertebra", "disc"))
    assert same.comparisons[0].difference.mean == 0 and not same.kept
    assert same.rivals[0].name == "teacher" and same.patients == tuple(case.name for case in cases)
    assert [(score.steps, score.samples) for score in same.rivals] == [(1, 1), (2, 1), (5, 2), (0, 0)]
    ignorant = copy.deepcopy(trained)
    ignorant.denoiser.load_state_dict(network(3).denoiser.state_dict())
    assert judge(trained, ignorant, config, checkpoint.config.sampling, cases, ("vertebra", "disc")).kept


def test_a_patient_of_several_scans_counts_once_and_unlabelled_structures_do_not(toy_run: Path) -> None:
    trained, checkpoint = load_network(toy_run)
    config, own = student_config(checkpoint.config), checkpoint.config.sampling
    cases = [dataclasses.replace(case, unknown=(1,)) for case in toy_dataset(6).cases]
    patients = {case.name: f"patient{number // 2}" for number, case in enumerate(cases)}
    ignorant = copy.deepcopy(trained)
    ignorant.denoiser.load_state_dict(network(3).denoiser.state_dict())
    found = judge(trained, ignorant, config, own, cases, ("vertebra", "disc"), patients=patients)
    assert found.patients == ("patient0", "patient1", "patient2") and not found.kept
    assert found.student.dice.shape == (3, 2) and np.isnan(found.student.dice[:, 1]).all()
    alone = judge(trained, ignorant, config, own, cases[:2], ("vertebra", "disc"))
    assert found.student.by_patient[0] == pytest.approx(np.mean(alone.student.by_patient))
    assert found.comparisons[0].difference.mean > 0 and "nan" in found.lines()[0]


def test_the_command_leaves_a_run_that_says_what_it_is(toy_run: Path, toy_cache: Path, tmp_path: Path) -> None:
    said: list[str] = []
    options = DistillOptions(steps=1, teacher_steps=2, teacher_samples=1, iterations=2, learning_rate=0.0)
    outcome = distill(toy_run, toy_cache, tmp_path / "student", options, say=said.append)
    # The rate of 1e-6 that a cosine ends with moves no pixel of the mask.
    assert not outcome.kept and any(line.startswith("not kept") for line in said)
    with pytest.raises(DataError, match=r"has no best\.pt") as refused:
        load_network(tmp_path / "student")
    assert "not kept has last.pt only" in refused.value.remedy
    net, student = load_network(tmp_path / "student", "last.pt")
    teacher = read_checkpoint(toy_run / "best.pt")
    assert (student.config.sampling.steps, student.config.sampling.samples) == (1, 1)
    assert (
        student.facts.teacher["iteration"] == teacher.iteration and len(student.facts.teacher["weights_sha256"]) == 64
    )
    assert all(torch.equal(net.state_dict()[k], v) for k, v in teacher.ema.items() if k.startswith("prior."))
    # Its own budget, which need not be said again.
    again = dataclasses.replace(options, resume=True, iterations=None, learning_rate=None, teacher_steps=None)
    resumed = distill(toy_run, toy_cache, tmp_path / "student", again, say=said.append)
    assert resumed.to_dict() == outcome.to_dict()


def test_a_student_has_the_folds_that_its_teacher_was_started_with(tmp_path: Path) -> None:
    data, run = write_raw_dataset(tmp_path / "Dataset901_Toy", cases=6), tmp_path / "run"
    run.mkdir()
    assert len(distilling._same_folds(run, data, DataConfig()).splits) == 1
    Started((TrainingSource(data),), 0, 3, None).write(run)
    assert len(distilling._same_folds(run, data, DataConfig()).splits) == 3
    (data / "splits_final.json").unlink()
    Started((TrainingSource(data),), 0, None, "toy[01]|toy[2-5]").write(run)
    assert set(distilling._same_folds(run, data, DataConfig()).patients.values()) == {
        *(f"toy{number}" for number in range(6))
    }


def test_patients_that_the_teacher_may_have_trained_on_are_refused(toy_run: Path) -> None:
    dataset = toy_dataset()
    checkpoint = read_checkpoint(toy_run / "best.pt")
    check_same_data(checkpoint, dataset)
    with pytest.raises(DataError, match="validation toy0"):
        check_same_data(checkpoint, dataclasses.replace(dataset, splits=dataset.splits[1:]))
    with pytest.raises(DataError, match="structures bone"):
        check_same_data(checkpoint, dataclasses.replace(dataset, labels=("bone", "disc")))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 5}, "a student of 5 steps"),
        ({"steps": 4, "teacher_steps": 3}, "a teacher of 3"),
        ({"teacher_samples": 0}, "teacher_samples = 0"),
        ({"truth_weight": 1.5}, r"truth_weight = 1\.5"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        RunConfig.from_dict({"distillation": values})
