"""check.py ENGINE MODELS losses|texts|cache|share|n-best - the engine against what Hugging Face's own classes gave (MODELS/*.expected.json). Standard library
only. Prints a line for each comparison; exit status 1 when one fails."""
import json
import os
import re
import subprocess
import sys
import tempfile

KINDS = ("llama4", "gpt_oss")
# Nats per byte. Rounding makes differences of 1e-6 and less; a window of 47 in place of gpt-oss's 48 makes one of 2e-5, so 1e-4 would not see it.
TOLERANCE = 5e-6

# Other ways to the same text: batches, forks, drafts with rollback, prompts in pieces, pages of any size, threads, beginnings read once.
WAYS = ([], ["--batch"], ["--fork", "3"], ["--draft"], ["--step", "7"], ["--page-size", "1"], ["--threads", "2"],
        ["--share"], ["--batch", "--share", "--draft", "--fork", "2", "--page-size", "16"],
        ["--batch", "--draft", "--fork", "3", "--step", "10", "--page-size", "5"],
        ["--batch", "--draft", "--step", "1", "--page-size", "16", "--threads", "2"])


def read(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8") as f:
        return json.load(f)


class Check:
    def __init__(self, engine, models):
        self.engine, self.models, self.wrong = engine, models, 0

    def run(self, kind, words):
        done = subprocess.run([self.engine, os.path.join(self.models, kind + ".safetensors")] + words,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode:
            self.say(False, kind, "exit status %d: %s" % (done.returncode, done.stderr.decode()))
        return done

    def say(self, ok, kind, what):
        self.wrong += not ok
        print("%s %s %s" % ("ok:   " if ok else "WRONG:", kind, what))

    def loss(self, kind, window, words):
        text = os.path.join(self.models, "held_out.txt")
        got = float(self.run(kind, ["--loss", text, "--window", window] + words).stdout or "nan")
        want = read(self.models, kind + ".expected.json")["loss"][window]
        self.say(abs(got - want) <= TOLERANCE, kind, "loss %s %s: %.9f, expected %.9f" % (window, " ".join(words), got, want))

    def prompts(self, kind):
        """the options that ask for all prompts, and the texts"""
        words, texts = [], []
        for p, e in zip(read(self.models, "prompts.json"), read(self.models, kind + ".expected.json")["greedy"]):
            assert p["prompt"] == e["prompt"] and p["count"] == len(e["text"])
            words += ["--prompt", p["prompt"], "--count", str(p["count"])]
            texts.append(e["text"].encode("latin-1"))
        return words, texts

    def losses(self):
        for kind in KINDS:
            self.loss(kind, "64", [])
            self.loss(kind, "512", [])
        self.loss("llama4", "512", ["--step", "37", "--page-size", "4"])
        self.loss("gpt_oss", "2048", ["--step", "100"])

    def texts(self):
        for kind in KINDS:
            words, texts = self.prompts(kind)
            for i, text in enumerate(texts):
                self.say(self.run(kind, words[4 * i:4 * i + 4]).stdout == text, kind, "prompt %d alone" % i)
            for way in WAYS:
                self.say(self.run(kind, words + way).stdout == b"".join(texts), kind, "all prompts %s" % " ".join(way))

    def cache(self):
        """Chunks and windows leave the cache; drafts are accepted and refused; what is too little is said."""
        for kind, most in (("llama4", 40), ("gpt_oss", 60)):
            words, texts = self.prompts(kind)
            words = words[8:12] + ["--page-size", "8", "--stats"]
            stats = self.run(kind, words).stderr.decode()
            share = float(re.search(r"cache: \d+ bytes; a full one: \d+ \(([0-9.]+) %\)", stats).group(1))
            self.say(share < most, kind, "%.1f %% of a full cache" % share)
            drafts = re.search(r"drafts: (\d+) of (\d+) tokens accepted", self.run(kind, words + ["--draft"]).stderr.decode())
            self.say(0 < int(drafts.group(1)) < int(drafts.group(2)), kind, drafts.group(0))


    def alike(self, kind):
        """the longest prompt, cut and continued: options for each text, which begins like another one"""
        prompt = max((p["prompt"] for p in read(self.models, "prompts.json")), key=len)
        prompts = [prompt, prompt + " and", prompt[:len(prompt) * 2 // 3], prompt + " of", prompt[:40] + "?", prompt]
        return [["--prompt", p, "--count", str(20 + i)] for i, p in enumerate(prompts)]

    def share(self):
        """Prompts that begin alike read that once; what they say is what each says alone."""
        for kind in KINDS:
            texts = self.alike(kind)
            want = b"".join(self.run(kind, words).stdout for words in texts)
            every = sum(texts, [])
            plain = self.run(kind, every + ["--stats"]).stderr.decode()
            read_alone = int(re.search(r"(\d+) tokens in", plain).group(1))
            for way in ([], ["--batch"], ["--batch", "--page-size", "5", "--draft"], ["--batch", "--step", "7"],
                        ["--batch", "--fork", "2", "--page-size", "16", "--threads", "2"], ["--budget", "4000000"]):
                done = self.run(kind, every + ["--share", "--stats"] + way)
                found = re.search(r"shared: (\d+) tokens of prompts were there already", done.stderr.decode())
                self.say(done.stdout == want and found and int(found.group(1)) > len(texts[0][1]), kind,
                         "shared %s: %s" % (" ".join(way), found and found.group(1)))
            tokens_in = int(re.search(r"(\d+) tokens in", self.run(kind, every + ["--share", "--stats"]).stderr.decode()).group(1))
            self.say(tokens_in < read_alone * 2 // 3, kind, "%d tokens in, not %d" % (tokens_in, read_alone))

    def nats(self, kind, text):
        """of all bytes but the first, by the loss that Hugging Face's is compared with"""
        with tempfile.NamedTemporaryFile() as f:
            f.write(text)
            f.flush()
            return float(self.run(kind, ["--loss", f.name, "--window", str(len(text) - 1)]).stdout) * (len(text) - 1)

    def n_best(self):
        for kind in KINDS:
            words, texts = self.prompts(kind)
            prompt, count, n = words[1], 30, 5
            one = ["--prompt", prompt, "--count", str(count)]
            for way in ([], ["--draft"], ["--batch", "--page-size", "3", "--draft"]):
                done = self.run(kind, one + ["--n-best", str(n)] + way)
                self.say(done.stdout == texts[0][:count], kind, "greedy beside others %s" % " ".join(way))
                lines = [line.split(" ", 1) for line in done.stderr.decode().splitlines()]
                scores = [float(score) for score, _ in lines]
                said = [text.encode().decode("unicode_escape").encode("latin-1") for _, text in lines]
                self.say(len(set(said)) == n and len(set(s[0] for s in said)) == n and texts[0][:count] in said and
                         scores == sorted(scores, reverse=True), kind, "%d texts, the likeliest first" % n)
                base = self.nats(kind, prompt.encode())
                for score, text in zip(scores, said):
                    want = (base - self.nats(kind, prompt.encode() + text)) / count
                    self.say(abs(score - want) < 1e-5, kind, "%r: %.6f, expected %.6f" % (text, score, want))


def main():
    check = Check(sys.argv[1], sys.argv[2])
    {"losses": check.losses, "texts": check.texts, "cache": check.cache, "share": check.share, "n-best": check.n_best}[sys.argv[3]]()
    return 1 if check.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
