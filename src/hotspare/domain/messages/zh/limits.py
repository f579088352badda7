"""限制、排队原因、灾备机配置文件。"""

from .. import Text

TEXTS: dict[str, Text] = {
    "limits.max-tasks": Text("不允许 max_tasks = {value}。", "请使用 1 到 {largest}。"),
    "limits.per-host": Text(
        "不允许 max_tasks_per_host = {value}。", "请使用 1 到 {largest}。"),
    "limits.per-host-lowered": Text(
        "max_tasks_per_host = {value} 大于所有灾备机的 max_tasks，实际按 {largest} 执行。",
        "请调高某台灾备机的 max_tasks，或将 max_tasks_per_host 设为 {largest}。"),
    "limits.buffer": Text(
        "max_tasks = {tasks} 时不允许 transfer_buffer = {value}。",
        "对一台主机的在途数据总和不能超过 32 MiB：请使用 {smallest} 到 {largest} 字节，"
        "或减少任务数。"),
    "input.bytes": Text("{value} 不是字节数。", "例如：65536、512KiB、4MiB。"),
    "bandwidth.text": Text(
        "{value} 不是带宽时间段。",
        "请写作 DAYS [FROM-TO] LIMIT，例如：mon-fri 09:00-18:00 10MiB，或：daily 0。"),
    "queue.machine-down": Text(
        "等待中：灾备机 {machine} 没有应答。排在第 {place} 位。", "请启动该灾备机的服务。"),
    "queue.machine-busy": Text(
        "等待中：灾备机 {machine} 暂不接受新任务：{reason}。排在第 {place} 位。"),
    "queue.machine-full": Text(
        "等待中：灾备机 {machine} 已在运行 {limit} 个任务（max_tasks）。排在第 {place} 位。"),
    "queue.tests-full": Text(
        "等待中：灾备机 {machine} 已在进行 {limit} 个演练。排在第 {place} 位。"),
    "queue.host-full": Text(
        "等待中：主机 {host} 上已有 {limit} 条规则在运行（max_tasks_per_host）。"
        "排在第 {place} 位。"),
    "queue.host-bytes": Text(
        "等待中：对主机 {host} 的在途数据可达 {in_flight} 字节，上限为 {limit}。"
        "排在第 {place} 位。"),
    "queue.turn": Text(
        "等待中：轮到等待更久的任务。在灾备机 {machine} 的队列中排在第 {place} 位。"),
    "worker.temp-dir-full": Text(
        "临时目录 {directory} 的剩余空间不足 {needed} MiB。",
        "请腾出空间，或在 worker.toml 的 temp_dir 中指定其他目录。"),
    "config.unreadable": Text("无法读取文件 {path}：{why}。"),
    "config.syntax": Text("文件 {path} 有误：{why}。",
                          "该文件为 TOML 格式，参见 packaging/worker.toml.example。"),
    "config.old-name": Text("{path}：{key} 已改名。", "请将 {key} 写作 {new}。"),
    "config.unknown": Text("{path}：没有名为 {key} 的设置。", "可用的设置：{known}。"),
    "config.value": Text("{path}：{key} 不能是 {value}。", "参见 packaging/worker.toml.example。"),
}
