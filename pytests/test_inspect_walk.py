"""What a walk says of registers holds on every way through the code: random code, executed along random ways."""

from __future__ import annotations

import random
from collections.abc import Iterator

from rseq_matrix.elf.machines.execution import Abi, CodeStep, Encoded, Flow, ObjectContext, Registers, Value, moved
from rseq_matrix.elf.walk import CodeWalk

LENGTH, REGISTERS, WAYS, LONGEST = 14, 3, 30, 60
FLOWS = {"branch": Flow.BRANCH, "jump": Flow.JUMP, "return": Flow.RETURN}


class ToyStep(CodeStep):
    """An instruction of a machine with a register to set and to add to, branches and returns; addresses count by 1."""

    abi = Abi(bits=64, caller_saved=(), arguments=(), system_call=(), lost_in_system_call=())

    def decode(self) -> None:
        """Read the operands."""
        numbers = [int(number) for number in self.operands.split()]
        if self.mnemonic in FLOWS:
            self.leave(FLOWS[self.mnemonic], *numbers)
        elif self.mnemonic == "set":
            self.write(numbers[0], Value(numbers[1]))
        elif self.mnemonic == "add":
            self.write(numbers[0], moved(self.get(numbers[0]), numbers[1]))


def some_code(dice: random.Random) -> list[Encoded]:
    found = []
    for address in range(LENGTH):
        name = dice.choice(["set", "add", "add", "nop", "branch", "branch", "jump", "return"])
        target, register = dice.randrange(LENGTH), dice.randrange(REGISTERS)
        operands = {"branch": f"{target}", "jump": f"{target}", "return": "", "nop": ""}
        found.append(Encoded(address, 1, b"\0", name, operands.get(name, f"{register} {dice.randrange(3)}")))
    return found


def walked(code: list[Encoded]) -> list[Registers]:
    """Return what the walk says that the registers hold behind each instruction."""

    def instructions(at: int) -> Iterator[Encoded]:
        return iter(code[at:])

    def execute(insn: Encoded, registers: Registers) -> ToyStep:
        return ToyStep(insn, registers, ObjectContext())

    walk = CodeWalk(range(LENGTH), {}, instructions, execute, ToyStep.is_padding)
    return [dict(registers) for _, registers in walk.states()]


def test_what_is_known_is_so_on_every_way() -> None:
    known = 0
    for seed in range(3000):
        dice = random.Random(seed)
        code = some_code(dice)
        said = walked(code)
        for _ in range(WAYS):
            registers = {register: Value(dice.randrange(1000, 2000)) for register in range(REGISTERS)}
            at = 0
            for _ in range(LONGEST):
                step = ToyStep(code[at], registers, ObjectContext())
                step.apply(registers)
                wrong = {n: v for n, v in said[at].items() if registers[n] != v}
                assert not wrong, f"seed {seed}, behind {at}: {wrong} in {[insn[3:5] for insn in code]}"
                known += len(said[at])
                taken = step.flow is Flow.JUMP or (step.flow is Flow.BRANCH and dice.random() < 0.5)
                at = step.target if taken and step.target is not None else at + 1
                if step.flow is Flow.RETURN or at >= LENGTH:
                    break
    assert known > 100_000
