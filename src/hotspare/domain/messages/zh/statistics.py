"""统计所发现的问题：未达到的目标、意外的整机复制。"""

from .. import Text

TEXTS: dict[str, Text] = {
    "input.file-write": Text("无法写入文件 {path}：{why}。"),
    "rule.rpo-violated": Text(
        "最新的恢复点 {point} 已有 {age_s} 秒；不应超过 {target_s} 秒。",
        "请查明运行为何失败、等待或耗时过长：hotspare task list --rule RULE"),
    "rule.rpo-kept": Text(
        "重新达到恢复点目标（RPO）：恢复点 {point} 已有 {age_s} 秒，允许 {target_s} 秒。"),
    "rule.unexpected-full": Text(
        "本次运行读取了整个磁盘，而其自上一个恢复点以来的变化本应已知（{reason}）。",
        "没有数据丢失，且只传输了不同的部分。下次运行应恢复为增量复制。"),
    "rule.unexpected-full-again": Text(
        "这已是连续第 {runs} 次读取整个磁盘的运行（{reason}）：此规则的变化块跟踪不起作用。",
        "请检查源端是否有残留的检查点或其他备份工具，并查看规则的日志。"),
}
