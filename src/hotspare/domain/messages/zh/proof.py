"""校验、损坏的恢复点及其修复、比较，以及验证计划。"""

from .. import Text

TEXTS: dict[str, Text] = {
    "point.unreadable": Text(
        "目标端的恢复点 {number} 无法打开：{reason}",
        "其文件缺失或已损坏。请选择更早的恢复点：hotspare point list RULE"),
    "scrub.found-damage": Text(
        "目标端的恢复点已损坏：{points}（单个恢复点最多 {size} 字节）。"
        "它们已被标记，切换不会自动使用它们。",
        "请检查目标存储。下一次运行会生成正确的恢复点：hotspare rule start {name}"),
    "rule.point-damaged": Text(
        "规则 {name} 的恢复点 {point} 已损坏。",
        "请选择完好的恢复点（{good}），或用 --damaged 按原样使用它。"),
    "rule.all-damaged": Text(
        "规则 {name} 的所有恢复点都已损坏。",
        "请生成新的恢复点（hotspare rule start {name}），或用 --damaged 使用损坏的恢复点。"),
    "proof.not-found": Text("没有名为 {name} 的验证计划。", "请执行：hotspare proof list"),
    "proof.exists": Text("已有名为 {name} 的验证计划。",
                         "请换一个名称，或修改它：hotspare proof edit {name}"),
    "proof.kind": Text("没有 {kind} 类验证。", "请从以下选择：{known}。"),
    "proof.scope": Text("验证计划针对一条规则、一个组或全部规则。", "规则与组只能指定其一。"),
    "point.damaged": Text(
        "恢复点 {point} 已损坏：最多有 {size} 字节与从源端读取的不同。"),
    "point.good-again": Text("恢复点 {point} 完好。"),
    "scrub.good": Text("{points} 个恢复点完好；共读取 {size} 字节。"),
    "scrub.point-gone": Text("恢复点 {point} 在此期间已合并到下一个恢复点。"),
    "scrub.unreadable": Text("恢复点 {point} 无法打开：{reason}"),
    "scrub.waits": Text("等待读取恢复点 {point}：其文件正被写入。"),
    "proof.skipped": Text("计划 {schedule}（{kind}）跳过了此规则：{reason}。"),
    "failover.passed-over": Text("切换使用恢复点 {point}：更新的恢复点已损坏（{points}）。"),
    "replica.repairing": Text(
        "恢复点 {point} 在目标端被改动（{size} 字节）。它已被标记为损坏，"
        "新的恢复点会从源端重新读取这部分数据。"),
    "replicate.mended": Text("恢复点 {point} 从源端重新读取了前一个恢复点中错误的 {size} 字节。"),
    "compare.asked": Text("应要求进行"),
    "replicate.compared": Text("磁盘 {disk} 已全部比较：变化跟踪没有遗漏。"),
    "replicate.compared-untracked": Text(
        "磁盘 {disk} 已全部比较；无法得知变化跟踪是否有遗漏。"),
    "replicate.tracking-lied": Text(
        "变化跟踪有误：磁盘 {disk} 有 {size} 字节与上一个恢复点不同，但变化跟踪没有指出。"
        "恢复点 {point} 是正确的，更早的可能不正确。",
        "请向 QEMU 和 libvirt 的开发者报告其版本；请定期比较，或为此规则关闭快速传输。"),
}
