"""Failback, in Chinese."""

from __future__ import annotations

from typing import Final

from .. import Text

TEXTS: Final[dict[str, Text]] = {
    "failback.source-runs": Text(
        "{vm} 正在源端运行，而其磁盘即将被覆盖。",
        "请先将其关闭，或由回切来关闭：hotspare failback start {name} --shut-down"),
    "failback.disks-differ": Text(
        "两台虚机的磁盘不一致。仅源端有：{source}。仅目标虚机有：{replica}。",
        "请增减磁盘使其一致，或用 --leave-disks 保持原样：目标虚机自有磁盘上写入的内容"
        "将不会回到源端。"),
    "failback.compare": Text("需要读取源端整块磁盘 {disk}：无法得知其变化（{reason}）。"),
    "failback.pass": Text(
        "一轮已结束，共发送 {moved} 字节：源端与目标虚机在该轮开始时刻一致。"),
    "failback.replica-off": Text("目标虚机 {name} 已关闭。"),
    "replica.still-runs": Text(
        "目标虚机 {name} 在 {grace_s} 秒内没有关闭。关机请求已发出，它仍可能自行关闭。",
        "请查看其控制台。可给予更长时间（--grace），或允许切断电源（--power-off）。"),
    "failback.replica-runs": Text(
        "在复制剩余数据时，目标虚机 {name} 被启动。源虚机未启动。",
        "请不要手工启动它，然后再次切回：hotspare failback switch"),
    "failback.source-runs-again": Text(
        "{vm} 已重新在源端运行；两端均未运行的时间为 {seconds} 秒。提交之前不会丢失任何数据。",
        "请检查后提交或撤销：hotspare failback commit {name}，hotspare failback undo {name}"),
    "failback.replica-again": Text("目标虚机 {name} 已重新运行。"),
    "failback.source-unknown": Text(
        "切回失败，且源端没有应答（{reason}）：它可能正在运行，因此目标虚机 {name} 保持关闭。",
        "请确保源端有应答，然后再次切回（hotspare failback switch），或撤销"
        "（hotspare failback undo），撤销会启动目标虚机。"),
    "failback.source-on-after-all": Text(
        "切回失败，而 {vm} 正在源端运行：目标虚机保持关闭。",
        "请撤销回切（hotspare failback undo），撤销会启动目标虚机。"),
    "failback.restored": Text("源端磁盘已恢复为回切之前的内容（{vm}）。"),
    "failback.undone": Text("回切已撤销：{vm} 在源端关闭，内容如前；目标虚机继续运行。"),
    "failback.demolished": Text("回切已撤销：新位置的 {vm} 已删除，目标虚机继续运行。"),
    "failback.done": Text("回切已提交。{vm} 重新由源端复制。"),
    "failback.commit-due": Text("{name} 的回切到达设定时间，现在提交。"),
    "failback.is-committed": Text(
        "{name} 的回切正在提交，不能再撤销。", "请等待其完成：hotspare failback commit {name}"),
    "failback.built": Text("已在存储 {storage} 中创建 {name}，磁盘为空。"),
    "failback.moved": Text("该规则从现在起保护位于新位置的 {vm}。"),
    "failback.place-stands": Text(
        "{name} 的回切已开始，但目的地不是这里。",
        "请先撤销（hotspare failback undo {name}），再重新开始。"),
    "failback.other-kind": Text(
        "{name} 从 {source} 复制到 {target}：目前尚不能从那里回切。",
        "请将切换转为永久切换（hotspare permanent），并用新规则保护该虚机。"),
    "failback.place-kind": Text(
        "{name} 是 {kind} 类平台，目标虚机不能在其上运行。", "请指定与目标虚机同类的平台。"),
    "failback.undo-first": Text(
        "{name} 切回之后源虚机已运行过：它写入的内容不能当作原有内容。",
        "请先撤销回切（hotspare failback undo {name}），再重新开始。"),
    "failback.confirm-undo": Text(
        "{vm} 切回之后写入的内容将会丢失：需要输入其名称确认。",
        "请提供：hotspare failback undo {name} --confirm {vm}"),
    "failback.write-failed": Text(
        "在源端写入磁盘 {disk} 偏移 {offset} 处的 {length} 字节失败：{error}。",
        "请检查源端存储。目标虚机仍可运行；请继续或撤销：hotspare failback"),
    "failback.no-space": Text(
        "源端存储已满：磁盘 {disk} 在偏移 {offset} 处无法写入。",
        "请释放空间后继续：hotspare failback start。被覆盖的内容已另存，可以撤销。"),
    "task.no-failback": Text("任务 {task}（{kind}）不属于回切。"),
}
