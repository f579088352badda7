"""规则设置、规则组、模板以及平台变更的文本。"""

from .. import Text

TEXTS: dict[str, Text] = {
    "input.missing": Text("缺少设置 {field}。", "请填写，或使用包含该设置的模板。", 2),
    "vm.replicated": Text("(已复制) 规则 {rule}"),
    "place.unknown": Text("平台 {platform} 上没有 {kind} {name}。", "已知的有：{known}。", 3),
    "place.which": Text("平台 {platform} 上有多个 {kind}：{known}。", "请选择其中一个。", 2),
    "rule.temp-dir": Text("{path} 不是有效的临时目录。",
                          "请填写灾备机上的绝对路径；留空则使用灾备机自己的临时目录。", 2),
    "rule.kinds": Text("不支持从 {source} 复制到 {target}。", "请选择 {source} 类的目标平台。", 8),
    "rule.lan-free-kvm": Text(
        "KVM 不支持 LAN-free 传输：磁盘须经 QEMU 读取，只有 QEMU 知道哪些数据发生了变化。",
        "请不要勾选 LAN-free。", 8),
    "rule.rpo-too-small": Text(
        "按此计划，两次启动之间最长为 {gap_s} 秒，无法满足 {rpo_s} 秒的 RPO。",
        "请放宽 RPO，或缩短间隔。", 2),
    "rule.edited": Text("规则 {name} 已被他人修改，现在是第 {revision} 版。",
                        "请重新查看（hotspare rule show {name}）后再修改。", 4),
    "rule.placed": Text(
        "规则 {name} 已开始创建目标虚机：{fields} 不能再修改。",
        "请删除此规则（目标虚机可删除或保留），再为新的位置新建规则。", 4),
    "rule.machine-moves": Text("规则的灾备机不能通过修改设置来更换。",
                               "请执行：hotspare rule move {name} --machine MACHINE", 2),
    "rule.edited-by": Text("规则已由 {user} 修改：{fields}。"),
    "rule.twice": Text("虚机 {vm} 还受另一条规则保护：两个已注册的平台其实是同一台主机。",
                       "请删除两条规则中的一条。"),
    "temp-dir.missing": Text(
        "灾备机上没有临时目录 {path}。",
        "请创建（mkdir -p -m 700 {path}）或挂载它，或另选目录：hotspare rule edit RULE "
        "--temp-dir PATH", 3),
    "temp-dir.rights": Text("灾备机不能写入临时目录 {path}：{why}。",
                            "请把该目录交给运行灾备机服务的用户。", 4),
    "temp-dir.full": Text(
        "临时目录 {path} 剩余 {free} 字节；一次任务的变化列表和日志需要 {needed} 字节。",
        "请清理空间，或另选目录：hotspare rule edit RULE --temp-dir PATH", 7),
    "group.not-found": Text("没有规则组 {name}。", "请执行：hotspare group list", 3),
    "group.exists": Text("已有规则组 {name}。", "请使用其他名称。", 4),
    "group.twice": Text("虚机 {vm} 被选择了两次。", "每台虚机只需选择一次。", 2),
    "template.not-found": Text("没有模板 {name}。", "请执行：hotspare template list", 3),
    "template.exists": Text("已有模板 {name}。", "请使用其他名称，或先删除该模板。", 4),
    "platform.address-in-use": Text("任务 {task} 正在使用平台 {name}。",
                                    "请在没有规则运行时修改地址：先停止规则，或等待。", 4),
    "platform.unverified": Text(
        "尚未确认平台 {name} 的地址通向其规则所对应的主机。",
        "请执行：hotspare platform check {name}", 4),
    "platform.other-host": Text(
        "平台 {name} 的地址通向另一台主机（标识 {found}），而不是其规则所对应的主机（{known}）。",
        "请更正地址：hotspare platform edit {name} --address URI。如果该主机是重新安装的："
        "hotspare platform edit {name} --accept-host", 4),
    "queue.platform-unverified": Text("排队中：平台 {host} 的地址已修改，须先检查。"),
}
