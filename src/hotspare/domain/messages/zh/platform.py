"""平台的文本。"""

from .. import Text

TEXTS: dict[str, Text] = {
    # --- 目标端与备用虚机 ---
    "blob.changed": Text(
        "目标端规则 {rule} 的文件 {blob} 与当初保存的内容不符：它被改动或已损坏。",
        "请检查存储。如需重新开始，请用 --delete-replica 删除规则后重新创建。"),
    "blob.not-found": Text("没有任何恢复点含有名为 {blob} 的文件。"),
    "disk.invalid": Text(
        "磁盘 {disk} 不能复制：{reason} 不符合要求。",
        "磁盘大小须为 512 字节的整数倍，且其标识须唯一。"),
    "disk.shrunk": Text(
        "磁盘 {disk}（{size} 字节）比上一个恢复点时（{before}）小。",
        "请删除目标虚机的恢复点，或给较小的磁盘另取目标名称。"),
    "intent.invalid": Text("{intent} 不是本程序的意图标识。"),
    "lineage.damaged": Text(
        "目标端规则 {rule} 的两份谱系记录均已损坏；无法区分其恢复点与其他文件。",
        "没有删除任何内容。请检查存储；用新规则保护该虚机，旧恢复点不再需要后再删除旧文件。"),
    "lineage.forged": Text(
        "目标端规则 {rule} 的谱系记录不是由该规则写入的：验证失败。",
        "请查明是谁写入了该存储池。如果规则的密钥被更换，请将其恢复。"),
    "lineage.full": Text(
        "谱系盘放不下 {points} 个恢复点（{size} / {limit} 字节）。",
        "请减少规则保留的恢复点数。"),
    "lineage.missing": Text(
        "存储池 {storage} 中有规则 {rule} 的文件，但指明哪些是恢复点的谱系记录已被删除。",
        "请恢复文件 hs-{rule}.lineage，或删除文件 hs-{rule}-* 后重新开始。"),
    "lineage.version": Text(
        "规则 {rule} 的谱系记录由更新版本的程序写入（{reason}）。",
        "请升级此灾备机。"),
    "merge.failed": Text(
        "QEMU 无法合并 {file}（磁盘 {disk}）。没有恢复点丢失。",
        "请查看目标主机上域 hs-rx-… 的日志；下次运行会重试。"),
    "name.taken": Text(
        "目标端已有名为 {name} 的虚机，它不是此规则的目标虚机。",
        "请给目标虚机另取名称，或重命名那台虚机。"),
    "point.conflict": Text(
        "另一个任务已发布了编号为 {number} 的恢复点。",
        "有两台灾备机在处理同一规则；请确认应由哪一台处理。"),
    "point.is-head": Text(
        "恢复点 {number} 是最新的：没有可以合并到的恢复点。",
        "如需删除最后一个恢复点，请删除目标虚机。"),
    "point.mismatch": Text(
        "要做的操作与已开始的不符：是 {found}，而不是 {expected}。"),
    "point.not-found": Text("没有恢复点 {number}。"),
    "point.other-retiring": Text(
        "恢复点 {other} 正在合并，此时不能移除恢复点 {number}。",
        "请先移除恢复点 {other}。"),
    "point.pinned": Text(
        "恢复点 {number} 不能合并：{by} 正在使用它。",
        "请结束该切换或演练，或删除使用此恢复点的对象。"),
    "point.published": Text("恢复点 {number} 已发布，不能再写入。"),
    "point.retiring": Text(
        "恢复点 {number} 正在合并到下一个恢复点，不能使用。",
        "请选择其他恢复点。"),
    "receiver.gone": Text(
        "目标主机上的辅助域 {domain} 已结束，或到它的连接已中断。"),
    "receiver.stuck": Text(
        "目标主机上的辅助域 {domain} 无法结束。",
        "请在主机上结束该域（virsh destroy {domain}）；其存储可能已挂起。"),
    "replica.base-stale": Text(
        "恢复点 {base} 不是目标端最新的（最新的是 {head}）。",
        "请重新运行任务。"),
    "replica.busy": Text(
        "另一个进程正以写方式打开目标虚机的文件：{reason}。",
        "请在目标主机上结束使用目标虚机文件的程序。"),
    "replica.changed": Text(
        "目标虚机的文件 {file} 自其恢复点以来被写入过。",
        "请查明是什么写入了它，并确保不再发生。该恢复点保持原样；"
        "要生成正确的新恢复点，请执行：hotspare rule start RULE --repair"),
    "replica.in-use": Text(
        "目标虚机不能删除：{by} 正在使用它。",
        "请先结束切换或演练。"),
    "replica.not-found": Text("存储池 {storage} 中没有规则 {rule} 的目标虚机。"),
    "replica.seal-missing": Text(
        "无法判断目标虚机的文件 {file} 自其恢复点以来是否被写入过。",
        "下次运行会比较全部数据；无需处理。"),
    "rule.fenced": Text(
        "另一台灾备机已接管规则 {rule}（代次 {found}，本机为 {epoch}）。",
        "本机无需处理。"),
    "rule.invalid": Text("{rule} 不是规则的标识。"),
    "storage.busy": Text("存储池 {storage} 正忙于其他客户端的卷。"),
    "storage.full": Text(
        "存储池 {storage} 剩余 {free} 字节；需要 {need} 字节。",
        "请释放一些空间，或减少恢复点数。"),
    "storage.inactive": Text(
        "存储池 {storage} 未激活。",
        "请启动它（virsh pool-start {storage}）。"),
    "storage.type": Text(
        "存储池 {storage} 的类型为 {kind}，不能存放文件链。",
        "请使用以下类型之一的存储池：{usable}。"),
    "target.arch": Text(
        "目标主机不能运行 {arch} 架构的虚机（它支持 {offered}）。",
        "请选择其他目标主机，或在该主机上安装适用于 {arch} 的 QEMU。"),
    "target.cpu": Text(
        "目标主机不能提供 CPU 型号 {model}。",
        "请为虚机选用两台主机都有的型号，或 host-model。目标主机支持：{usable}。"),
    "target.firmware": Text(
        "目标主机没有 {firmware} 类固件。",
        "请在该主机上安装 OVMF 软件包（ovmf、edk2-ovmf）。"),
    "target.machine": Text(
        "目标主机不支持机器类型 {machine}。",
        "请升级目标主机的 QEMU，或为虚机选用两台主机都有的类型：{offered}。"),
    "target.network": Text(
        "目标主机没有与源端网络 {network} 对应的网络 {mapped}。",
        "请在规则中将 {network} 对应到目标端的某个网络（{present}）。"),
    "target.virt": Text("目标主机提供的是 {offered}，而不是 {virt}。"),
    "vm.invalid": Text(
        "虚机的配置中有不能接受的值：{field} 为 {value}。",
        "请在源端修改。"),
    # --- 连接、清单与源端 ---
    "agent.unresponsive": Text(
        "{vm} 的客户机代理没有应答：{reason}。",
        "请检查虚机内的 qemu-guest-agent 服务。"),
    "checkpoint.off": Text(
        "检查点 {checkpoint} 会保留到其虚机运行为止：只有 QEMU 能移除它。",
        "以后的运行会移除它；要结束规则，请先启动虚机。"),
    "disk.bus": Text(
        "磁盘 {disk} 连接在 {bus} 总线上，不支持这种总线。",
        "请使用 virtio、scsi、sata、ide 或 usb。"),
    "disk.encrypted": Text(
        "磁盘 {disk} 由虚拟化层加密，不支持复制。",
        "请改为在虚机内部加密。"),
    "disk.format": Text(
        "磁盘 {disk} 的格式为 {format}，不支持这种格式。",
        "请将其转换为 qcow2。"),
    "disk.lun": Text(
        "磁盘 {disk} 是直通设备（{device}），不能复制。",
        "请将其存储作为普通磁盘连接。"),
    "disk.no-source": Text("磁盘 {disk} 没有存储。", "请连接其存储，或移除该磁盘。"),
    "disk.not-smaller": Text(
        "磁盘 {disk} 不能小于（{size} 字节）回切之前的大小（{before}）。"),
    "disk.read-only": Text(
        "磁盘 {disk} 在虚机配置中为只读，因此回切不能写入它：其他虚机可能也在使用。",
        "如果它只属于此虚机，请从虚机配置中去掉 <readonly/>。"),
    "disk.resize": Text(
        "磁盘 {disk} 所在的存储无法将其调整为 {size} 字节：{reason}。",
        "请用该存储自己的方式调整大小，然后重试。"),
    "disk.shareable": Text(
        "磁盘 {disk} 是共享磁盘：其他虚机可能同时写入它。",
        "如果它只属于此虚机，请去掉 <shareable/>。"),
    "disk.storage": Text(
        "磁盘 {disk} 位于 {storage} 类存储上，不支持这种存储。",
        "请使用文件、块设备或存储池中的卷。"),
    "disk.transient": Text(
        "磁盘 {disk} 是临时磁盘：虚机停止时其写入的数据会被丢弃。",
        "请从虚机配置中去掉 <transient/>。"),
    "disk.unreadable": Text(
        "主机无法读取磁盘 {disk}：{reason}。",
        "请检查其镜像是否存在、其存储是否已挂载。"),
    "first-copy": Text("这是第一次复制：没有可供计算变化的起点。"),
    "firmware.size": Text(
        "{vm} 存不下目标虚机的 UEFI 变量：变量为 {size} 字节，而其自己的存储为 {found} 字节。",
        "请为其选用与目标虚机同类的固件。"),
    "host.directory": Text(
        "libvirt 无法读取主机的目录 {directory}：{reason}。",
        "请检查该目录是否存在，以及 libvirt 是否有权读取。"),
    "host.file-too-large": Text("主机的文件 {path} 超过了预期的 {limit} 字节。"),
    "host.no-space": Text("主机没有剩余空间：{reason}。", "请在主机上释放一些空间。"),
    "network.inactive": Text(
        "网络 {network} 未激活。", "请启动它（virsh net-start {network}）。"),
    "network.not-found": Text("主机没有这个网络：{reason}。"),
    "platform.auth": Text(
        "主机拒绝了我们：{reason}。",
        "请检查密钥或帐号是否正确，以及是否允许登录并使用 libvirt。"),
    "platform.busy": Text(
        "libvirt 正忙于该虚机：{reason}。",
        "若持续如此，请查看还有什么在操作该虚机（virsh domjobinfo）。"),
    "platform.denied": Text(
        "libvirt 拒绝访问：{reason}。",
        "请授予该帐号管理 libvirt 的权限（libvirt 组或 polkit）。"),
    "platform.failed": Text("libvirt 操作失败：{reason}。"),
    "platform.no-backup": Text(
        "此主机上的 QEMU 不能运行备份作业。", "请升级该主机的 QEMU 和 libvirt。"),
    "platform.qemu-ended": Text(
        "主机上的一个 QEMU 进程中途结束：{reason}。", "请查看该主机的 libvirt 日志。"),
    "platform.option": Text(
        "连接选项 {option} 不能为 {value}。",
        "请给出不含引号、反斜杠、$ 和 % 的绝对路径。"),
    "platform.scheme": Text(
        "地址 {uri} 的类型不受支持（{scheme}）。",
        "本机请用 qemu:///system 或 qemu+unix，其他主机请用 qemu+ssh。qemu+tcp 以明文传输磁盘"
        "数据和命令，因此被拒绝；qemu+tls 暂不支持。"),
    "platform.socket-dir": Text(
        "无法得知 {uri} 的主机上 QEMU 可以在哪里创建套接字。",
        "请将连接选项 socket_dir 设为该主机上 QEMU 可写的目录。"),
    "platform.socket-path": Text(
        "套接字路径 {path} 超过了 QEMU 的上限 {limit} 字节。",
        "请将连接选项 socket_dir 设为路径更短的目录。"),
    "platform.too-old": Text(
        "主机的软件版本低于要求。",
        "请升级：最低可用版本为 libvirt 8.2 和 QEMU 6.1。"),
    "platform.unreachable": Text(
        "无法连接主机：{reason}。",
        "请检查主机及其 libvirtd 是否运行，以及网络是否允许访问。"),
    "platform.unsupported": Text("主机不支持此操作：{reason}。"),
    "platform.uri": Text(
        "{uri} 不是可接受的地址。",
        "路径须为 /system 或 /session。参数只允许 socket 和 proxy：其他参数可能运行程序，"
        "或关闭对主机密钥的检查。"),
    "platform.xml": Text("libvirt 返回了不能接受的描述：{reason}。"),
    "qmp.failed": Text("QEMU 拒绝了 {command}：{reason}。"),
    "quiesce.agent-hung": Text(
        "客户机代理挂起，因此文件系统没有静默。",
        "请在虚机内重新启动 qemu-guest-agent 服务。"),
    "quiesce.cut-short": Text(
        "生成时间点耗时过长，因此提前解冻了虚机的文件系统。",
        "请查明是什么拖慢了主机的存储或 libvirtd。"),
    "quiesce.failed": Text(
        "{vm} 的文件系统无法静默，而规则要求静默（{note}）。",
        "请检查虚机内的客户机代理，或选择仅在可能时静默。"),
    "quiesce.no-agent": Text(
        "没有连接客户机代理，因此文件系统没有静默。",
        "请添加通道 org.qemu.guest_agent.0，并在虚机内安装 qemu-guest-agent。"),
    "quiesce.nothing-frozen": Text("客户机代理没有找到可以冻结的文件系统。"),
    "quiesce.paused": Text("虚机处于暂停状态，因此其文件系统无法静默。"),
    "quiesce.thaw-failed": Text(
        "{vm} 的文件系统可能仍处于冻结状态：客户机代理不再应答。",
        "请立即在其主机上运行 virsh domfsthaw {vm}，或重置该虚机。"),
    "source.busy": Text(
        "{vm} 上正在运行其他作业（备份、迁移或块作业）。",
        "等它结束即可，无需处理；可查看 virsh domjobinfo {vm}。"),
    "source.cancelled": Text("已没有任务在等待该时间点。"),
    "source.disk-busy": Text(
        "主机上另有进程打开了 {vm} 的磁盘：{reason}。",
        "请结束使用该虚机磁盘的程序。"),
    "source.disks-changed": Text("{vm} 的磁盘已与该时间点时的不同。"),
    "source.foreign-job": Text(
        "有一个备份作业使用了我们的名称 {job}，却没有我们的标记。",
        "请查明是谁启动的，并结束它（virsh domjobabort）。"),
    "source.helper-died": Text("静默 {vm} 的进程被杀死；文件系统已解冻。"),
    "source.helper-gone": Text("读取 {vm} 的辅助进程已结束，该时间点随之失去。"),
    "source.io-error": Text(
        "保持 {vm} 的时间点期间，该虚机因写错误而暂停。已放弃该时间点并恢复虚机运行。",
        "请检查其磁盘和暂存空间所在的文件系统是否已满。"),
    "source.job-gone": Text("保持 {vm} 时间点的备份作业已结束。"),
    "source.job-stuck": Text(
        "备份作业 {job} 无法结束。", "请检查虚机的存储是否挂起。"),
    "source.other-base": Text("找到的 {vm} 时间点是从另一个基准计算变化的。"),
    "source.runs": Text(
        "{vm} 没有关机，不能写入其磁盘。",
        "请先将其关机。"),
    "source.saved": Text(
        "{vm} 已关机且保存了内存；该内存只与其磁盘的当前内容相符。",
        "请启动后再正常关机，或丢弃其内存（virsh managedsave-remove {vm}）。"),
    "source.scratch-dir": Text(
        "磁盘 {disk}（{location}）所在的目录不能存放暂存文件。",
        "请将连接选项 scratch_dir 设为主机上的某个目录。"),
    "source.scratch-low": Text(
        "时间点的暂存空间即将用尽（{directory}）。",
        "请释放该处的一些空间，或设置连接选项 scratch_dir。"),
    "source.vm-starting": Text("虚机 {vm} 正在启动。"),
    "source.vm-stopped": Text("保持虚机 {vm} 的时间点期间，该虚机停止了。"),
    "ssh.agent": Text("无法启动 ssh-agent。", "请在本机安装 OpenSSH 客户端。"),
    "ssh.host-key": Text(
        "主机的 ssh 密钥与已知的不同：{reason}。",
        "如果主机无误，请将其密钥放入连接选项 known_hosts。"),
    "ssh.key": Text(
        "ssh 私钥不能使用：{reason}。", "请提供没有口令的 OpenSSH 私钥。"),
    "storage.not-found": Text("主机没有这个存储池：{reason}。"),
    "tracking.broken": Text(
        "磁盘 {disk} 的变化块列表已丢失：虚机没有正常停止，或其镜像被还原过。",
        "无需处理：本次运行会比较全部数据，以后的运行会恢复快速。"),
    "tracking.checkpoint-lost": Text(
        "计算变化所用的检查点已不存在。", "无需处理：本次运行会比较全部数据。"),
    "tracking.disk-added": Text("该磁盘是上一个恢复点之后新增的。"),
    "tracking.disk-shrunk": Text("该磁盘比上一个恢复点时小。"),
    "tracking.old-format": Text(
        "有磁盘的镜像为旧的 qcow2 第 2 版，没有存放变化块列表的位置，因此要比较虚机的全部数据。",
        "请在虚机关机时转换：qemu-img amend -f qcow2 -o compat=1.1 FILE。"),
    "tracking.never-ran": Text(
        "到目前为止每次运行时虚机都是关机状态，而 QEMU 只跟踪运行中虚机的变化，"
        "因此要比较全部数据。"),
    "tracking.raw": Text(
        "raw 磁盘没有存放变化块列表的位置，因此要比较其全部数据。",
        "转换为 qcow2 可以加快运行。"),
    "undo.mark": Text(
        "{vm} 的选项 {option} 不是 Hotspare 写入的内容，无法判断回切进行到哪一步。",
        "请查明是谁修改的；恢复原值，或将其删除以重新开始：届时回切已覆盖的内容无法还原。"),
    "undo.missing": Text(
        "回切为每个磁盘保留了一个撤销盘，但 {file} 已不存在：磁盘 {disk} 之前的内容已丢失，"
        "或该磁盘是之后新增的。",
        "如需撤销回切，请恢复该文件，否则请提交回切；移除新增的磁盘后可以继续。"),
    "vm.confidential": Text("{vm} 的内存已加密（SEV），不支持复制。"),
    "vm.kind": Text("{vm} 不是 QEMU 虚机（{kind}）。"),
    "vm.lease": Text("{vm} 持有存储租约（{device}），不支持复制。"),
    "vm.no-disks": Text("{vm} 没有可以复制的磁盘。"),
    "vm.not-found": Text("没有这个虚机：{reason}。"),
    "vm.nvdimm": Text("{vm} 含有持久内存，不能复制。"),
    "vm.passthrough": Text(
        "{vm} 含有直通设备（{device}），其他主机没有该设备。", "请移除该设备。"),
    "vm.saved": Text(
        "虚机已关机且保存了内存；未写入磁盘的数据不在恢复点中。",
        "如需干净的恢复点，请启动虚机后再正常关机。"),
    "vm.tpm": Text("{vm} 含有虚拟 TPM，暂不支持。", "请移除 TPM。"),
    "vm.warn.device": Text("设备 {device} 不包含在目标虚机中。"),
    "vm.warn.direct-kernel": Text(
        "主机用来引导该虚机的内核不包含在内：目标虚机从其磁盘引导。"),
    "vm.warn.disk-raw": Text(
        "磁盘 {disk} 是 raw 格式：没有变化块跟踪，每次运行都要读取全部数据。"),
    "vm.warn.disk-readonly": Text("磁盘 {disk} 在源端只读；在目标虚机中可写。"),
    "vm.warn.interface": Text(
        "网卡 {mac} 直接连接（{kind}）：请将其对应到目标端的某个网络。"),
    "vm.warn.internal-snapshots": Text(
        "该虚机有 {count} 个内部快照：它们不在目标虚机中，且还原到其中之一会丢失变化块列表。"),
    "vm.warn.loader": Text("该虚机自带的固件文件不包含在目标虚机中。"),
    "vm.warn.removable": Text("驱动器 {disk}（{device}）及其介质不包含在目标虚机中。"),
    "vm.warn.setting": Text("设置 {setting} 不包含在目标虚机中。"),
    "volume.not-found": Text("主机没有这个文件：{reason}。"),
}
