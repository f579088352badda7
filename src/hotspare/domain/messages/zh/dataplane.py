"""数据面的文本。"""

from .. import Text

TEXTS: dict[str, Text] = {
    "task.stopped": Text(
        "任务已被操作员停止。",
        "需要时重新启动规则即可：将从已传输的位置继续。"),
    "source.unreachable": Text(
        "到源端磁盘 {disk} 的连接中断，且无法重新建立：{reason}。",
        "请检查到源主机的网络以及该主机是否运行；任务重新启动后将从中断处继续。"),
    "target.unreachable": Text(
        "到目标端磁盘 {disk} 的连接中断，且无法重新建立：{reason}。",
        "请检查到目标主机的网络以及该主机是否运行；任务重新启动后将从中断处继续。"),
    "source.read-failed": Text(
        "在源端读取磁盘 {disk} 偏移 {offset} 处的 {length} 字节失败：{error}。",
        "请检查源虚机的存储：源主机上也会报告读错误。"),
    "target.read-failed": Text(
        "在目标端读取磁盘 {disk} 偏移 {offset} 处的 {length} 字节失败：{error}。",
        "请检查目标存储。该恢复点可能已损坏：请保留其他恢复点。"),
    "target.write-failed": Text(
        "在目标端写入磁盘 {disk} 偏移 {offset} 处的 {length} 字节失败：{error}。",
        "请检查目标存储及其权限。已发布的恢复点不受影响。"),
    "target.no-space": Text(
        "目标存储已满：磁盘 {disk} 在偏移 {offset} 处无法写入。",
        "请释放目标存储空间或减少保留的恢复点数，然后重新启动规则。已发布的恢复点不受影响。"),
    "machine.no-space": Text(
        "灾备机的临时目录已满：{path}。",
        "请释放该处空间，或在规则中选择其他临时目录。"),
    "source.too-small": Text(
        "源端磁盘 {disk} 只有 {size} 字节，应为 {expected} 字节。",
        "磁盘在读取过程中被缩小。请重新启动规则。"),
    "target.too-small": Text(
        "目标端磁盘 {disk} 只有 {size} 字节，需要 {expected} 字节。",
        "目标虚机的磁盘被他人改动。请重新启动规则；若问题依旧，请删除目标虚机并重新复制。"),
    "disk.too-large": Text(
        "磁盘大小为 {size} 字节；最多支持 {limit} 字节。",
        "请拆分该磁盘，或将其排除在复制之外。"),
    "nbd.block-status": Text(
        "无法读取偏移 {offset} 处已使用块或变化块的列表（{context}）：{error}。",
        "请检查源虚机的存储，然后重新启动规则。"),
    "tracking.context-missing": Text(
        "源端没有提供其变化块跟踪（{context}）。",
        "无需处理：下次运行会按摘要比较磁盘并修复跟踪。"),
    "plan.damaged": Text(
        "变化块列表 {path} 已损坏。",
        "请检查灾备机的磁盘。下次运行会生成新的列表。"),
    "journal.damaged": Text(
        "传输记录 {path} 已损坏。",
        "请检查灾备机的磁盘。下次运行会重新开始传输。"),
    "journal.other-pass": Text(
        "传输记录 {path} 属于 {found}，而不是 {expected}。",
        "没有改动任何内容。请报告此问题：传输记录绝不能用于另一个时间点。"),
    "journal.incomplete": Text(
        "磁盘 {disk} 的传输未完成，因此不能据此生成恢复点。",
        "请重新启动规则：将传输剩余部分。"),
    "digests.damaged": Text(
        "摘要表 {path} 已损坏。",
        "下次运行会读取整个磁盘并生成新的摘要表。"),
}
