"""A worker without torch, which starts at once: it runs the Python code that a command gives it, and replies with the value of `answer`."""

from typing import Any

from mann_bench.run.channel import open_channel


def main() -> None:
    """Run commands."""
    channel = open_channel()
    for command in channel.commands():
        if command["do"] == "quit":
            return
        names: dict[str, Any] = {"channel": channel, "answer": None}
        try:
            exec(command["code"], names)
        except Exception as error:
            names["answer"] = repr(error)
        channel.send({"number": command["number"], "reply": {"answer": names["answer"]}})


if __name__ == "__main__":
    main()
