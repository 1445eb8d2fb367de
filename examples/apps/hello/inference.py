"""A minimal app that shows every feature: setup, partial outputs, logs, progress, cancellation."""

import asyncio
from collections.abc import AsyncIterator

from infsh import BaseApp, BaseAppInput, BaseAppOutput, BaseAppSetup


class AppSetup(BaseAppSetup):
    greeting: str = "Hello"


class AppInput(BaseAppInput):
    name: str
    times: int = 1
    pause: float = 0.0


class AppOutput(BaseAppOutput):
    text: str


class App(BaseApp):
    async def setup(self, config: AppSetup) -> None:
        self.greeting = config.greeting
        print(f"greeting with {self.greeting}")

    async def run(self, app_input: AppInput) -> AsyncIterator[AppOutput]:
        lines: list[str] = []
        for number in range(app_input.times):
            await asyncio.sleep(app_input.pause)
            lines.append(f"{self.greeting}, {app_input.name}!")
            self.logger.info("line %d", number + 1)
            self.progress((number + 1) / app_input.times, f"{number + 1} of {app_input.times}")
            yield AppOutput(text="\n".join(lines))

    async def unload(self) -> None:
        print("goodbye")
