"""`leray lm`: train a language model, measure it, let it write, hand it on."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from leray.errors import LerayError, plain


def _shown(text: str) -> str:
    """Text that cannot steer a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def _say(line: str) -> None:
    print(plain(line), file=sys.stderr, flush=True)


@dataclass(frozen=True, kw_only=True)
class LmTrain:
    """Options of `leray lm train`.

    Args:
        config: A TOML file, such as configs/baseline.toml; leave it out with --resume.
        text: A file, a pattern of files, a folder, stdlib or logicstream; in place of the file's
            own.
        steps: How many, in place of the file's own.
        seed: Of the weights and of the order of the text.
        out: The run's folder, new or empty; by default one below runs/.
        resume: Go on with the run in this folder; its own settings hold.
        device: cpu, cuda, cuda:1.
        json: One JSON object on stdout.
    """

    config: tyro.conf.Positional[Path | None] = None
    text: str | None = None
    steps: int | None = None
    seed: int = 0
    out: Path | None = None
    resume: Path | None = None
    device: str = "cpu"
    json: bool = False

    def run(self) -> int:
        """Train or go on, and say where the model is."""
        from leray.train.distributed import is_follower
        from leray.train.session import Asked, follow_training, run_training

        if self.resume is not None:
            self._refuse_beside_resume()
            asked = Asked(tables={}, where="")
        elif self.config is None:
            raise LerayError(
                "no configuration: give a TOML file, such as configs/baseline.toml, or --resume RUN"
            )
        else:
            asked = Asked(
                tables=self._tables(self.config),
                where=str(self.config),
                seed=self.seed,
                device=self.device,
            )
        if is_follower():
            follow_training(asked, resume=self.resume)
            return 0
        result, folder = run_training(asked, out=self.out, resume=self.resume, say=_say)
        if self.json:
            told = {k: v for k, v in result.items() if k != "documents"}
            print(json.dumps(told, allow_nan=False))
        _say(f"model: {folder}")
        return 0

    def _tables(self, path: Path) -> dict:
        """The file's tables, with what the command line puts in place."""
        from leray.train.configuration import read_configuration

        tables = read_configuration(path)
        for table, key, value in (
            ("data", "text", self.text),
            ("schedule", "num_steps", self.steps),
        ):
            if value is not None and isinstance(tables.setdefault(table, {}), dict):
                tables[table][key] = value
        return tables

    def _refuse_beside_resume(self) -> None:
        given = {
            "CONFIG": self.config is not None,
            "--text": self.text is not None,
            "--steps": self.steps is not None,
            "--seed": self.seed != 0,
            "--out": self.out is not None,
            "--device": self.device != "cpu",
        }
        wrong = [name for name, was in given.items() if was]
        if wrong:
            raise LerayError(
                f"{', '.join(wrong)} beside --resume: the run's own settings hold; leave it out, "
                "or start a new run without --resume"
            )


@dataclass(frozen=True, kw_only=True)
class LmEvaluate:
    """Options of `leray lm evaluate`.

    Args:
        model: The folder of a trained model, such as a run's.
        text: A file, a pattern of files or a folder, all of whose documents are read; by default
            the split of the text that it was trained on.
        split: Without --text: report (the default), tune or train.
        device: cpu, cuda, cuda:1.
        json: One JSON object on stdout, with the losses of every document.
    """

    model: tyro.conf.Positional[Path]
    text: str | None = None
    split: str | None = None
    device: str = "cpu"
    json: bool = False

    def run(self) -> int:
        """Measure and print."""
        from leray.train.measuring import evaluate_command

        result = evaluate_command(self.model, self.text, self.split, self.device)
        if self.json:
            print(json.dumps(result, allow_nan=False))
            return 0
        print(
            f"{result['loss']:.4f} nats a token, perplexity {result['perplexity']:.2f}, "
            f"{result['bits_per_byte']:.4f} bits a byte; {result['tokens']:,} tokens of "
            f"{len(result['documents']):,} documents ({plain(result['text'])})"
        )
        return 0


@dataclass(frozen=True, kw_only=True)
class LmGenerate:
    """Options of `leray lm generate`.

    Args:
        model: The folder of a trained model, such as a run's.
        prompt: What the text begins with.
        tokens: How many follow.
        temperature: Of the draws; 0 takes the likeliest.
        top: How many tokens may be drawn.
        seed: Of the draws.
        device: cpu, cuda, cuda:1.
        json: One JSON object on stdout instead of the text.
    """

    model: tyro.conf.Positional[Path]
    prompt: str = ""
    tokens: int = 300
    temperature: float = 0.8
    top: int = 50
    seed: int = 0
    device: str = "cpu"
    json: bool = False

    def run(self) -> int:
        """Print the prompt and what follows."""
        from leray.train.measuring import generate_command

        written = generate_command(
            self.model,
            self.prompt,
            self.tokens,
            temperature=self.temperature,
            top=self.top,
            seed=self.seed,
            device=self.device,
        )
        print(json.dumps({"text": written}) if self.json else _shown(written))
        return 0


@dataclass(frozen=True, kw_only=True)
class LmExport:
    """Options of `leray lm export`.

    Args:
        model: The folder of a trained model.
        out: A new or empty folder.
        json: One JSON object on stdout: where it is, and what config.json says.
    """

    model: tyro.conf.Positional[Path]
    out: Path
    json: bool = False

    def run(self) -> int:
        """Write the folder and say how it is loaded."""
        try:
            import transformers  # noqa: F401
        except ImportError as error:
            raise LerayError(
                "exporting needs transformers: pip install 'leray[transformers]'"
            ) from error
        from leray.integrations.export import export

        config = export(self.model, self.out)
        if self.json:
            print(json.dumps({"folder": str(self.out), "config": config.to_diff_dict()}))
        _say(f"exported to {self.out}: import leray.integrations.transformers, then")
        _say(f"AutoModelForCausalLM.from_pretrained({str(self.out)!r})")
        return 0
