"""运行中任务所记录的文本，以及流程和灾备机的错误。"""

from .. import Text

TEXTS: dict[str, Text] = {
    "internal.error": Text(
        "发生了未预料到的错误：{error}（位于 {where}）。",
        "详情见灾备机的日志；请报告此问题。"),
    "task.no-rule": Text("任务 {task} 没有指定规则。"),
    "task.no-platform": Text("任务 {task} 没有指定平台。"),
    "platform.unknown-kind": Text("此灾备机没有适用于 {kind} 类平台的驱动。"),
    "point.not-usable": Text(
        "规则 {rule} 的恢复点 {point} 不能使用：它在目标端不存在，或正在合并到下一个恢复点。",
        "请选择其他恢复点：hotspare point list {rule}"),
    "replicate.instant-lost-again": Text(
        "同一任务中，源端的一致性时间点已丢失 {passes} 次。",
        "原因见任务日志；已传输的数据会保留给下次运行。"),
    "replicate.state-lost": Text(
        "任务运行期间，规则的目录 {folder} 丢失了状态。",
        "请重新启动规则；临时目录不得由他人清理。"),
    "source.instant-lost": Text(
        "源端同名的时间点已不是正在读取的那一个。"),
    "worker.already-running": Text(
        "另一台灾备机正在使用状态目录 {directory} 运行。",
        "请先结束它，或使用其他目录。"),
    "worker.temp-dir": Text(
        "临时目录 {directory} 不能使用：{error}。",
        "请创建该目录并授予此用户写权限，或用 --temp-dir 指定其他目录。"),
    "task.retry": Text("出现错误 {error}；{wait_s} 秒后进行第 {turn} 次尝试。"),
    "task.clean-up-failed": Text("清理失败：{error}。", "下次运行会再次清理。"),
    "vm.warning": Text("{warning}"),
    "replicate.continues": Text("从任务 {task} 已传输的数据处继续。"),
    "replicate.compare": Text(
        "无法得知磁盘 {disk} 上的变化（{reason}）：将读取并比较全部数据，只传输不同的部分。"),
    "replicate.next-pass": Text(
        "时间点 {instant} 已丢失（{reason}）。已传输的数据会保留，其余部分从更新的时间点读取。"),
    "replicate.published": Text("恢复点 {point} 已发布。"),
    "replica.verifying": Text(
        "恢复点 {point} 的封存标记缺失：正在将其内容与摘要比较。"),
    "retention.merged": Text("恢复点 {point} 已合并到下一个恢复点。"),
    "retention.deferred": Text(
        "现保留 {points} 个恢复点，多于规则的设置：较旧的恢复点正在使用。"),
    "sweep.source": Text("已清除源端的残留：{kind} {name} {error}"),
    "failover.running": Text("目标虚机已从恢复点 {point} 以 {name} 的名称运行。"),
    "failover.undone": Text("目标虚机已关机，其自身写入的数据已丢弃。"),
    "failover.not-standing": Text(
        "目标端已没有 {name} 的切换。", "请检查目标端，然后撤销切换。"),
    "failover.copy-ended": Text(
        "虚机 {vm} 的磁盘 {disk} 的复制未完成就结束了。虚机照常运行。",
        "请查看目标端 QEMU 的日志（常见原因是存储已满），然后重试。"),
    "failover.source-runs": Text(
        "虚机 {vm} 仍在源端运行，其副本在可达的网络上使用相同的地址（{macs}）。",
        "请关闭源虚机（hotspare failover {name} --planned 会关闭它且不丢数据），或使用 --unplugged "
        "断网启动，或在确认可以并存时使用 --allow-duplicate-mac。"),
    "failover.source-running": Text(
        "虚机仍在源端运行：现在同时存在两个。", "请关闭不需要的那一个。"),
    "failover.source-paused": Text(
        "虚机在源端处于暂停状态，可能会继续运行。", "请在此之前将其关闭。"),
    "failover.source-off": Text("虚机在源端已关机。"),
    "failover.source-unknown": Text(
        "源平台无响应，或不再认识该虚机：它可能仍在源端运行。",
        "请确保它不会与副本同时运行。"),
    "source.in-use": Text(
        "{name} 未处于切换状态：{vm} 正在工作。", "只有在副本运行时才能断开其网络。"),
    "source.unplugged": Text("源端 {vm} 的网线已拔出。"),
    "source.plugged": Text("源端 {vm} 的网线已重新插上。"),
    "rule.both-run": Text(
        "{vm} 又在源端运行，与其副本同时存在：现在有两台。",
        "请关闭不需要的一台：在其主机上关闭 {vm}，或用 hotspare undo {name} 关闭副本"
        "（其写入的数据会被丢弃）。"
        "在此之前可断开源虚机的网络：hotspare source unplug {name}"),
    "rule.both-run-over": Text("源端的 {vm} 已关机。"),
    "source.still-runs": Text(
        "虚机 {vm} 在 {grace_s} 秒内未关机。",
        "请查看其控制台，延长等待时间（--grace），或允许强制断电（--power-off）。"),
    "planned.source-off": Text("虚机 {vm} 已在源端关机。"),
    "planned.ended-sync": Text(
        "计划切换在第一次同步时终止。虚机 {vm} 照常在源端运行。",
        "请查看任务的错误，然后执行：hotspare failover {name} --planned"),
    "planned.ended-shut-down": Text(
        "计划切换终止：虚机 {vm} 未关机。关机请求已发出，它仍可能关机。副本未启动。",
        "请查看虚机 {vm} 的控制台，然后执行：hotspare failover {name} --planned"),
    "planned.ended-last-sync": Text(
        "计划切换在最后一次同步时终止。虚机 {vm} 在源端已关机，副本未启动。",
        "请查看任务的错误，然后继续：hotspare failover {name} --planned；"
        "或者返回：在源端启动 {vm}。"),
    "planned.ended-failover": Text(
        "计划切换在启动副本时终止。虚机 {vm} 在源端已关机，其全部数据都在最新的恢复点中。",
        "请查看任务的错误，然后继续：hotspare failover {name}；或者返回：在源端启动 {vm}。"),
    "permanent.kept": Text("{name} 的磁盘现已是其自身的文件，不再依赖副本。"),
    "permanent.points-deleted": Text("已删除恢复点（{count}）。"),
    "permanent.points-stay": Text(
        "无法删除恢复点：{reason}虚机不再需要它们。",
        "请删除存储 {storage} 中名称以 {prefix} 开头的内容。"),
    "permanent.done": Text("{name} 已成为独立的虚机，规则已关闭。"),
    "remove.source-swept": Text("已从源端清除我们的 {count} 个对象。"),
    "remove.stuck": Text("部分内容无法删除：{what}。"),
    "remove.source-unclean": Text(
        "无法清理源端：{reason}",
        "请排除该问题后再次删除规则。如果源端已永久丢失：hotspare rule delete {name} --force。"
        "源端名称以 {prefix} 开头的检查点和文件将会保留。"),
    "remove.target-unclean": Text(
        "无法清理目标端：{reason}",
        "请排除该问题后再次删除规则。如果目标端已永久丢失：hotspare rule delete {name} --force。"
        "存储 {storage} 中名称以 {prefix} 开头的卷将会保留。"),
    "remove.source-left": Text(
        "源端未被清理：{reason} 名称以 {prefix} 开头的检查点和文件会保留在源端，直到您将其删除。"),
    "remove.target-left": Text(
        "目标端未被清理：{reason} 存储 {storage} 中名称以 {prefix} 开头的卷会保留，直到您将其删除，"
        "或用 hotspare admin rebuild 接管目标虚机。"),
    "remove.replica-deleted": Text("目标虚机及其恢复点已删除（{count}）。"),
    "remove.replica-kept": Text("目标虚机保留在目标端。"),
}
