"""多台灾备机的文本：注册、与控制机的连接、规则的转移。"""

from .. import Text

TEXTS: dict[str, Text] = {
    # --- 注册 ----------------------------------------------------------------------------------
    "enrolment.invalid": Text(
        "注册码未知、已使用、已过期，或是给 {name} 以外的名称的。",
        "请向管理员索取新的注册码：hotspare machine enrol {name}"),
    "enrolment.code": Text(
        "这不是注册码。", "请使用此命令输出的整行内容：hotspare machine enrol NAME"),
    "enrolment.missing": Text(
        "此灾备机尚未注册：{directory} 中没有令牌。",
        "请用 --server URL --enrol CODE --name NAME 运行一次；注册码由管理员用 "
        "hotspare machine enrol NAME 生成"),
    "machine.own-process": Text("灾备机 {name} 属于控制机自身的进程。", "请另取名称。"),
    "machine.in-use": Text(
        "灾备机 {name} 仍有工作：{what}。",
        "请将其规则和平台转移到另一台灾备机：hotspare rule move RULE --machine NAME，"
        "hotspare platform move PLATFORM --machine NAME"),
    "machine.not-live": Text("灾备机 {name} 没有应答。", "请启动其服务，然后重试。"),
    # --- 连接 ----------------------------------------------------------------------------------
    "link.token": Text(
        "控制机不认识此灾备机的令牌，或令牌已被管理员吊销。",
        "请重新注册此灾备机：在控制机上运行 hotspare machine enrol NAME，然后在本机上运行 "
        "hotspare worker --enrol CODE。"),
    "link.twice": Text(
        "另一个进程正以灾备机 {name} 的身份从 {address} 连接：两者之一运行在其状态目录的副本上。",
        "请结束副本并删除其状态目录。若要让它成为单独的灾备机，请用另一个名称注册："
        "hotspare machine enrol NAME"),
    "link.address": Text("{url} 不是控制机的地址。", "请使用 --server https://HOST:8443。"),
    "link.name": Text(
        "控制机的证书不适用于 {url} 中的名称：{why}。",
        "请使用证书中的名称，或在启动控制机时加上 --name HOST。"),
    "link.untrusted": Text(
        "{url} 不是此灾备机所注册的控制机：{why}。",
        "地址是否正确？如果控制机是重新安装的，请重新注册此灾备机。"),
    "link.too-old": Text(
        "此灾备机的连接协议版本为 {found}；控制机要求 {oldest} 到 {newest}。",
        "请升级此灾备机上的 Hotspare。"),
    "link.too-new": Text(
        "此灾备机的连接协议版本为 {found}；控制机要求 {oldest} 到 {newest}。",
        "请先升级控制机，再升级其灾备机。"),
    "link.away": Text(
        "控制机 {url} 没有应答：{why}。", "正在进行的传输会继续；连接会自动重试。"),
    "server.stopping": Text("控制机即将停止。", "请稍后重试。"),
    "worker.outbox": Text(
        "无法将运行中任务的报告写入 {path}：{why}。", "请腾出空间；任务会等待，然后自动继续。"),
    "worker.state-dir-full": Text(
        "状态目录 {directory} 的可用空间不足 {needed} MiB。", "请腾出空间。"),
    "worker.temp-dir-shared": Text(
        "另一台灾备机正在使用临时目录 {path}。",
        "请为每台灾备机指定各自的目录：worker.toml 中的 temp_dir，或 --temp-dir。"),
    "link.too-large": Text(
        "报告 {call} 有 {size} 字节，而控制机最多接受 {largest} 字节。",
        "该平台列出的虚拟机是否超出了单台控制机的容量？"),
    "link.unheard": Text(
        "控制机没有应答，而这一步必须先让它知道。", "请确保本灾备机能连接到控制机。"),
    "points.unknown": Text(
        "控制机没有灾备机先前报告的还原点 {number}。", "下一次报告会给出它的全部内容。"),
    "link.call": Text("未知的报告 {call}。"),
    "link.report-refused": Text("控制机拒绝了任务 {task} 的报告 {call}：{error}"),
    "machine.clock": Text(
        "灾备机 {machine} 的时钟与控制机相差 {offset} 秒。",
        "请让两者都用 NTP 校时（chrony、systemd-timesyncd）。"),
    # --- 规则的转移 ----------------------------------------------------------------------------
    "rule.moved": Text("规则已转移到灾备机 {machine}，并在那里继续。"),
    "rule.move-same": Text("规则 {name} 已在灾备机 {machine} 上。"),
    "platform.moved": Text("该平台现由灾备机 {machine} 访问。"),
    # --- 本地套接字 ----------------------------------------------------------------------------
    "local.no-socket": Text(
        "本机没有灾备机在 {path} 应答：{why}。",
        "请检查其服务是否运行，并用 --socket STATE_DIR/worker.sock 指定其套接字。"),
}
