"""Make the logs in fixtures/lm_eval again, by the real lm-evaluation-harness on toy models and tasks, without network.

    pip install 'lm_eval[hf]>=0.4.9'
    python -m tests.lm_eval_logs FOLDER

A GPT-2 of two layers learns sums of number words for a few steps. Two students of one layer are distilled from it with
`kdlib.distillation_loss`, seeds 0 and 1; a third model is the first student evaluated once more with one example ahead
of each question. What names the machine is taken out of the results files; the samples stay as the harness wrote them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import yaml

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
TASK = {
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "choices",
    "doc_to_target": "answer",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}
STEPS = {"teacher": 120, "student": 25}


def make(folder: Path) -> Path:
    """Models, tasks and logs in a folder; returns that of the logs."""
    folder.mkdir(parents=True, exist_ok=True)
    _tasks(folder)
    _models(folder / "models")
    _evaluate(folder)
    for path in folder.glob("*/*/results_*.json"):
        results = json.loads(path.read_text("utf-8"))
        kept = ("results", "config", "model_source", "model_name", "model_name_sanitized", "lm_eval_version")
        path.write_text(json.dumps({key: results[key] for key in kept if key in results}, indent=1) + "\n", "utf-8")
    return folder / "logs"


def questions() -> dict[str, list[dict]]:
    """{task: its questions}. Sums have four options, orders three or two; `size` and `kind` may serve as groups."""
    sums, order = [], []
    for i in range(16):
        a, b = i % 4, (i * 3 + 1) % 5
        choices = [WORDS[(a + b + k) % 11] for k in (0, 1, 2, 5)]
        right, at = choices[0], i % 4
        choices[0], choices[at] = choices[at], choices[0]
        about = {"size": "small" if a + b < 4 else "large", "answer": choices.index(right)}
        sums.append({"question": f"{WORDS[a]} plus {WORDS[b]} is", "choices": choices, **about})
        options = [WORDS[i % 11], WORDS[(i + 2) % 11], WORDS[(i + 5) % 11]][: 2 + i % 2]
        least = min(options, key=WORDS.index)
        about = {"kind": "pair" if len(options) == 2 else "triple", "answer": options.index(least)}
        order.append({"question": f"least of {' and '.join(options)} is", "choices": options, **about})
    return {"sums": sums, "order": order}


def _tasks(folder: Path) -> None:
    (folder / "tasks").mkdir(exist_ok=True)
    for name, rows in questions().items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        task = {"task": f"toy_{name}", "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}}, **TASK}
        (folder / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump(task), "utf-8")
    spoken = {key: value for key, value in TASK.items() if key not in ("doc_to_choice", "metric_list")}
    spoken |= {
        "task": "toy_spoken",
        "dataset_kwargs": {"data_files": {"test": "sums.jsonl"}},
        "output_type": "generate_until",
        "doc_to_target": "{{choices[answer]}}",
        "generation_kwargs": {"max_gen_toks": 2, "until": ["\n"]},
        "metric_list": [{"metric": "exact_match"}],
    }
    (folder / "tasks" / "spoken.yaml").write_text(yaml.safe_dump(spoken), "utf-8")


def _models(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    from kdlib import distillation_loss

    vocabulary = ["<eos>", "<unk>", "plus", "is", "least", "of", "and", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>", unk_token="<unk>", model_max_length=64
    )
    texts = [f"{WORDS[a]} plus {WORDS[b]} is {WORDS[a + b]} <eos>" for a in range(6) for b in range(5)]
    tokens = torch.tensor([tokenizer(text)["input_ids"] for text in texts])

    def fresh(layers: int, seed: int) -> GPT2LMHeadModel:
        torch.manual_seed(seed)
        size = {"n_layer": layers, "n_embd": 32, "n_head": 2, "n_positions": 64, "vocab_size": len(vocabulary)}
        return GPT2LMHeadModel(GPT2Config(**size, bos_token_id=0, eos_token_id=0, pad_token_id=0))

    def train(model: GPT2LMHeadModel, teacher: GPT2LMHeadModel | None, steps: int) -> GPT2LMHeadModel:
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        labels = tokens[:, 1:].flatten()
        for _ in range(steps):
            logits = model(tokens[:, :-1]).logits.flatten(0, 1)
            with torch.no_grad():
                target = logits if teacher is None else teacher(tokens[:, :-1]).logits.flatten(0, 1)
            options = {"temperature": 2.0, "alpha": 0.0 if teacher is None else 0.8}
            optimizer.zero_grad()
            distillation_loss(logits, target, labels, **options).backward()
            optimizer.step()
        return model.eval()

    teacher, found = train(fresh(2, 100), None, STEPS["teacher"]), {}
    for seed in (0, 1):
        found[f"student-seed{seed}"] = train(fresh(1, seed), teacher, STEPS["student"])
    found["teacher"] = teacher
    for name, model in found.items():
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


def _evaluate(folder: Path) -> None:
    """The harness's own command, in one process: what it loads takes longer than what it computes."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache"), "TOKENIZERS_PARALLELISM": "false"}
    os.chdir(folder)
    from lm_eval.__main__ import cli_evaluate

    todo = [(name, "toy_sums,toy_order", "logs") for name in ("teacher", "student-seed0", "student-seed1")]
    for model, tasks, out in (*todo, ("student-seed0", "toy_spoken", "spoken")):
        words = f"lm_eval run --model hf --model_args pretrained=models/{model},dtype=float32 --tasks {tasks}"
        words += f" --include_path tasks --output_path {out} --log_samples --device cpu --batch_size 12 --seed 0"
        sys.argv = words.split()
        cli_evaluate()


if __name__ == "__main__":
    print(make(Path(sys.argv[1]).resolve()))
